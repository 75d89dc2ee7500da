//! Finds the prose in a file: comments and string literals of Rust, comments of TOML and SQL, Markdown.

/// Lines of prose that belong together.
pub(crate) struct Run {
    pub(crate) kind: Kind,
    /// The number of the first line, and the text of each line.
    pub(crate) first_line: usize,
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines of a doc comment.
    Doc,
    /// Lines of another comment.
    Comment,
    /// A string literal or a block comment.
    Block,
    /// A page of Markdown.
    Page,
}

pub(crate) fn of_markdown(text: &str) -> Run {
    Run { kind: Kind::Page, first_line: 1, lines: text.lines().map(str::to_owned).collect() }
}

/// The comments of a file whose comments start with `marker` and end with their line.
pub(crate) fn of_lines(text: &str, marker: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(comment) = line.trim_start().strip_prefix(marker) {
            push_line(&mut runs, Kind::Comment, index + 1, comment);
        }
    }
    runs
}

/// The comments and string literals of a Rust file.
pub(crate) fn of_rust(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            let comment = &rest[..rest.find('\n').unwrap_or(rest.len())];
            let is_doc =
                (comment.starts_with("///") && !comment.starts_with("////")) || comment.starts_with("//!");
            let (kind, marker) = if is_doc { (Kind::Doc, 3) } else { (Kind::Comment, 2) };
            push_line(&mut runs, kind, line, &comment[marker..]);
            comment.len()
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            push_text(&mut runs, line, &rest[2..length]);
            length
        } else if let Some(length) = raw_string(rest, at.checked_sub(1).map(|before| bytes[before])) {
            push_text(&mut runs, line, &rest[..length]);
            length
        } else if rest.starts_with('"') {
            let length = string(rest);
            push_text(&mut runs, line, &rest[1..length]);
            length
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    runs
}

/// Adds a line of a comment, to the run before where it goes on from there.
fn push_line(runs: &mut Vec<Run>, kind: Kind, line: usize, text: &str) {
    let text = text.trim().to_owned();
    match runs.last_mut() {
        Some(run) if run.kind == kind && run.first_line + run.lines.len() == line => run.lines.push(text),
        _ => runs.push(Run { kind, first_line: line, lines: vec![text] }),
    }
}

fn push_text(runs: &mut Vec<Run>, line: usize, text: &str) {
    // A literal without a blank is an identifier, not prose.
    if !text.trim().contains(char::is_whitespace) {
        return;
    }
    // A line of a literal that ends with a backslash continues on the next line.
    let lines = text.lines().map(|line| line.trim_end_matches('\\').to_owned()).collect();
    runs.push(Run { kind: Kind::Block, first_line: line, lines });
}

/// The length of the raw string literal at the start of `rest`, if there is one.
fn raw_string(rest: &str, before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|before| before.is_ascii_alphanumeric() || before == b'_') {
        return None;
    }
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)? + end.len();
    Some(rest.len() - body.len() + length)
}

/// The length of the string literal at the start of `rest`.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal at the start of `rest`, or of the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest[escaped + 1..].find('\'').map_or(1, |end| escaped + 1 + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        of_rust(text).iter().map(|run| (run.first_line, run.lines.join("/"))).collect()
    }

    #[test]
    fn adjacent_comment_lines_form_one_text() {
        assert_eq!(found("// a\n// b\nlet x = 1;\n// c"), [(1, "a/b".to_owned()), (4, "c".to_owned())]);
    }

    #[test]
    fn quotes_and_slashes_in_a_literal_start_no_string_or_comment() {
        let text = r##"let a = ['"', '\'']; let b = "// \" no"; let c = r#"x " y"#; let d: &'static str = "e f"; let e = "g";"##;
        let texts: Vec<_> = found(text).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, [r#"// \" no""#, r##"r#"x " y"#"##, r#"e f""#]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_block_comments() {
        assert_eq!(found("let a = \"x\n y\";\n/* z\n */\n// end").last(), Some(&(5, "end".to_owned())));
    }
}
