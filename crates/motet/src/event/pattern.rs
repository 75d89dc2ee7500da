use std::fmt;

/// Selects events by name: a literal name, `*` for exactly one segment, `>` for one or more segments at the end.
///
/// `user.*` matches `user.created` but neither `user` nor `user.email.changed`; `user.>` matches `user.created` and
/// `user.email.changed` but not `user`; `>` matches every name.
///
/// # Examples
/// ```
/// use motet::event::Pattern;
///
/// let pattern = Pattern::parse("user.*")?;
/// assert!(pattern.matches("user.created"));
/// assert!(!pattern.matches("user.email.changed"));
/// # Ok::<(), motet::event::PatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`PatternError`]: the text is not a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "" => return Err(PatternError::EmptySegment),
                "*" => {}
                ">" if segments.peek().is_none() => {}
                _ if segment.contains(['*', '>']) => return Err(PatternError::MisplacedWildcard),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns `true` if the pattern matches `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut names = name.split('.');
        for segment in self.0.split('.') {
            match (segment, names.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(actual)) if literal == actual => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The text is empty, begins or ends with a dot, or has two dots in a row.
    #[error("a pattern has an empty segment")]
    EmptySegment,
    /// The text has a `*` inside of a longer segment, or a `>` that is not the whole last segment.
    #[error(
        "a pattern has a misplaced wildcard: `*` stands for one whole segment, `>` for one or more at the end"
    )]
    MisplacedWildcard,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Compares a name with a pattern by the definition of a pattern.
    fn naive(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, name @ ..]) => naive(pattern, name),
            ([one, pattern @ ..], [other, name @ ..]) => one == other && naive(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn pattern_matches_exactly_the_names_of_its_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4),
            rest in any::<bool>(),
            name in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
        ) {
            let mut pattern = pattern;
            if rest {
                pattern.push(">");
            }
            let parsed = Pattern::parse(&pattern.join(".")).unwrap();
            prop_assert_eq!(parsed.matches(&name.join(".")), naive(&pattern, &name));
        }
    }

    #[test]
    fn malformed_pattern_is_refused_with_the_reason() {
        for (text, error) in [
            ("", PatternError::EmptySegment),
            ("a..b", PatternError::EmptySegment),
            (".a", PatternError::EmptySegment),
            ("a.", PatternError::EmptySegment),
            ("a*", PatternError::MisplacedWildcard),
            (">.a", PatternError::MisplacedWildcard),
            ("**", PatternError::MisplacedWildcard),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }
}
