//! Compares the schema of a database with that of a new store.
//!
//! A table that was altered has its columns in another order than a new one, and without comments. So the texts are
//! compared token by token, and the parts of a table in any order: no statement of relay depends on the order of columns.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::schema;

/// Returns the tables and indexes of a new store that a database lacks, or has in another form. Further tables and indexes
/// of the database do no harm.
pub(super) fn missing_objects(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(schema::SCHEMA)?;
    let found = objects(connection)?;
    let wanted = objects(&fresh)?.into_iter();
    Ok(wanted.filter(|(name, text)| found.get(name) != Some(text)).map(|(name, _)| name).collect())
}

/// Returns the definitions of the tables and indexes, by name.
pub(super) fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND sql IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, canonical(&row.get::<_, String>(1)?))))?;
    rows.collect()
}

/// Returns a text that is the same for definitions with the same meaning.
fn canonical(sql: &str) -> String {
    let tokens = tokens(sql);
    if tokens.get(1).is_none_or(|kind| !kind.eq_ignore_ascii_case("TABLE")) {
        return tokens.join(" ");
    }
    let (mut head, mut parts, mut tail) = (Vec::new(), vec![Vec::new()], Vec::new());
    let mut depth = 0;
    let mut is_over = false;
    for token in tokens {
        match token.as_str() {
            ")" if depth == 1 => {
                depth = 0;
                is_over = true;
            }
            "," if depth == 1 => parts.push(Vec::new()),
            "(" if depth == 0 && !is_over => depth = 1,
            _ if is_over => tail.push(token),
            _ if depth == 0 => head.push(token),
            other => {
                depth += match other {
                    "(" => 1,
                    ")" => -1,
                    _ => 0,
                };
                if let Some(part) = parts.last_mut() {
                    part.push(token);
                }
            }
        }
    }
    let mut parts: Vec<_> = parts.into_iter().map(|part| part.join(" ")).collect();
    parts.sort_unstable();
    format!("{} ({}) {}", head.join(" "), parts.join(", "), tail.join(" "))
}

/// Splits a definition into words, quoted texts and other characters, without comments.
fn tokens(sql: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_start();
        if !token.starts_with("--") {
            // SQLite puts the name of a renamed table in quotation marks.
            tokens.push(token.trim_matches('"').to_owned());
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_definitions_have_the_same_text() {
        let one = "CREATE TABLE t (\n    a INTEGER, -- of b, not c\n    b TEXT NOT NULL DEFAULT '{,}',\n PRIMARY KEY (a, b)\n) STRICT";
        let other = "CREATE TABLE \"t\" (PRIMARY KEY(a,b), b TEXT NOT NULL DEFAULT '{,}', a INTEGER) STRICT";
        assert_eq!(canonical(one), canonical(other));
        assert_eq!(
            canonical(one),
            "CREATE TABLE t (PRIMARY KEY ( a , b ), a INTEGER, b TEXT NOT NULL DEFAULT '{,}') STRICT"
        );
    }

    #[test]
    fn other_definitions_have_another_text() {
        let table = "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'x') STRICT";
        for other in [
            "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'y') STRICT",
            "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'x')",
            "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'x', PRIMARY KEY (a)) STRICT",
            "CREATE TABLE t (a INTEGER NOT NULL, b TEXT DEFAULT 'x') STRICT",
        ] {
            assert_ne!(canonical(table), canonical(other), "{other}");
        }
        assert_ne!(canonical("CREATE INDEX i ON t (a, b)"), canonical("CREATE INDEX i ON t (b, a)"));
    }
}
