//! Names of tests that are too long to be read in a list.

use super::Finding;

/// The most characters that the name of a test may have.
const MOST: usize = 60;

pub(crate) fn too_long(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_test = false;
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.starts_with("#[") {
            is_test |= line.contains("test]") || line.contains("test(") || line.contains("sim]");
        } else if let Some(name) = function(line) {
            if is_test && name.chars().count() > MOST {
                findings.push(Finding {
                    line: index + 1,
                    message: format!("`{name}` has {} characters: {MOST} at most", name.chars().count()),
                });
            }
            is_test = false;
        }
    }
    findings
}

/// The name of the function that this line declares.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_tests_are_limited_to_60_characters() {
        let name = "x".repeat(MOST + 1);
        let count = |attribute: &str| too_long(&format!("#[{attribute}]\nasync fn {name}() {{}}")).len();
        assert_eq!(count("test"), 1);
        assert_eq!(count("tokio::test(start_paused = true)"), 1);
        assert_eq!(count("cfg(test)"), 0);
        assert_eq!(too_long(&format!("#[test]\nfn {}() {{}}", &name[1..])).len(), 0);
    }
}
