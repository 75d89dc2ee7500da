//! Tables of Markdown without words in their head.

use super::Finding;
use super::prose::Run;

pub(crate) fn without_head(runs: &[Run]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for run in runs {
        for (index, pair) in run.lines.windows(2).enumerate() {
            if is_rule(&pair[1]) && cells(&pair[0]).any(|cell| cell.trim().is_empty()) {
                findings.push(Finding {
                    line: run.first_line + index,
                    message: "the head of this table has an empty cell: name each column".to_owned(),
                });
            }
        }
    }
    findings
}

/// `|---|---|`, the line below the head.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('|')
        && line.contains("--")
        && line.chars().all(|part| matches!(part, '|' | '-' | ':' | ' '))
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::prose::of_markdown;

    #[test]
    fn every_column_of_a_table_needs_a_name() {
        let lines = |text: &str| without_head(&[of_markdown(text)]).into_iter().map(|finding| finding.line);
        assert_eq!(lines("text\n| | |\n|---|---|\n| a | b |").collect::<Vec<_>>(), [2]);
        assert_eq!(lines("| a | |\n|--|--|").collect::<Vec<_>>(), [1]);
        assert_eq!(lines("| a | b |\n|:--|--:|\n| | |").count(), 0);
    }
}
