//! Event types, and the patterns with which endpoints select them.

use std::fmt;

use motet::event::{self, PatternError};
use thiserror::Error;

/// Maximum number of characters of an event type or a pattern.
pub const MAX_TYPE_LENGTH: usize = 128;

/// The reason why a text is not an event type or a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is longer than [`MAX_TYPE_LENGTH`].
    #[error("has {0} characters; at most {MAX_TYPE_LENGTH} are allowed")]
    TooLong(usize),
    /// Two dots follow each other, or the text begins or ends with a dot.
    #[error(
        "has an empty segment; write segments of letters, digits, '_' and '-' with single dots between them"
    )]
    EmptySegment,
    /// A character is not a letter, a digit, `_` or `-`.
    #[error("has {0:?}; segments are made of ASCII letters, digits, '_' and '-'")]
    BadCharacter(char),
    /// `*` is part of a longer segment, or `>` is not at the end.
    #[error("has a misplaced wildcard; '*' stands for one whole segment, and '>' for one or more at the end")]
    MisplacedWildcard,
}

impl From<PatternError> for EventTypeError {
    fn from(error: PatternError) -> Self {
        match error {
            PatternError::EmptySegment => Self::EmptySegment,
            _ => Self::MisplacedWildcard,
        }
    }
}

/// The type of an event: segments of `[A-Za-z0-9_-]` joined by dots, as in `user.created`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventType(String);

impl EventType {
    /// Parses an event type.
    ///
    /// # Errors
    /// [`EventTypeError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        check_length(text)?;
        text.split('.').try_for_each(check_segment)?;
        Ok(Self(text.to_owned()))
    }

    /// The text of the event type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Selects event types: a literal type, `*` for exactly one segment, `>` for one or more segments at the end.
///
/// `user.*` matches `user.created` but neither `user` nor `user.email.changed`; `user.>` matches `user.created` and
/// `user.email.changed` but not `user`; `>` matches every type. The syntax is that of an emitter's
/// [pattern](event::Pattern), limited to the characters of event types.
///
/// ```
/// use motet_relay::{EventType, Pattern};
///
/// let pattern = Pattern::parse("user.>")?;
/// assert!(pattern.matches(&EventType::parse("user.email.changed")?));
/// assert!(!pattern.matches(&EventType::parse("user")?));
/// # Ok::<(), motet_relay::EventTypeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(event::Pattern);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`EventTypeError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        check_length(text)?;
        let pattern = event::Pattern::parse(text).map_err(EventTypeError::from)?;
        text.split('.').filter(|segment| !matches!(*segment, "*" | ">")).try_for_each(check_segment)?;
        Ok(Self(pattern))
    }

    /// Returns `true` if the pattern selects events of this type.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        self.selects(&event_type.0)
    }

    /// Like [`matches`](Self::matches), for a text that is known to be an event type.
    pub(crate) fn selects(&self, event_type: &str) -> bool {
        self.0.matches(event_type)
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn check_length(text: &str) -> Result<(), EventTypeError> {
    if text.is_empty() {
        return Err(EventTypeError::Empty);
    }
    let characters = text.chars().count();
    if characters > MAX_TYPE_LENGTH {
        return Err(EventTypeError::TooLong(characters));
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), EventTypeError> {
    if segment.is_empty() {
        return Err(EventTypeError::EmptySegment);
    }
    match segment.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(*c, '_' | '-'))) {
        Some(bad) => Err(EventTypeError::BadCharacter(bad)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use proptest::strategy::Strategy;

    use super::*;

    #[test]
    fn patterns_select_by_whole_segments() {
        let table = [
            // pattern, type, selected
            ("user.created", "user.created", true),
            ("user.created", "user.created.twice", false),
            ("user.created", "user", false),
            ("user.created", "User.created", false),
            ("user.*", "user.created", true),
            ("user.*", "user", false),
            ("user.*", "user.email.changed", false),
            ("user.*", "users.created", false),
            ("*.created", "user.created", true),
            ("*.created", "created", false),
            ("*", "user", true),
            ("*", "user.created", false),
            ("*.*", "user.created", true),
            ("user.>", "user.created", true),
            ("user.>", "user.email.changed", true),
            ("user.>", "user", false),
            ("user.>", "order.created", false),
            (">", "user", true),
            (">", "user.email.changed", true),
            ("*.>", "user", false),
            ("*.>", "user.created", true),
            ("user.*.changed", "user.email.changed", true),
            ("user.*.changed", "user.email.sent", false),
            ("user.*.>", "user.email.changed.twice", true),
            ("user-account.*", "user-account.re-opened", true),
            ("user.*", "user-account.opened", false),
        ];
        for (pattern, event_type, selected) in table {
            let got = Pattern::parse(pattern).unwrap().matches(&EventType::parse(event_type).unwrap());
            assert_eq!(got, selected, "{pattern} on {event_type}");
        }
    }

    #[test]
    fn malformed_patterns_and_types_are_refused_with_the_reason() {
        let long = "a".repeat(MAX_TYPE_LENGTH + 1);
        let patterns = [
            ("", EventTypeError::Empty),
            (long.as_str(), EventTypeError::TooLong(MAX_TYPE_LENGTH + 1)),
            (".", EventTypeError::EmptySegment),
            ("a.", EventTypeError::EmptySegment),
            (".a", EventTypeError::EmptySegment),
            ("a..b", EventTypeError::EmptySegment),
            ("a b", EventTypeError::BadCharacter(' ')),
            ("a+b", EventTypeError::BadCharacter('+')),
            ("é", EventTypeError::BadCharacter('é')),
            ("a\nb", EventTypeError::BadCharacter('\n')),
            (">.a", EventTypeError::MisplacedWildcard),
            ("a.b*", EventTypeError::MisplacedWildcard),
            ("**", EventTypeError::MisplacedWildcard),
            ("a.>>", EventTypeError::MisplacedWildcard),
        ];
        for (text, error) in patterns {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(EventType::parse("user.*"), Err(EventTypeError::BadCharacter('*')));
        assert_eq!(EventType::parse("user.>"), Err(EventTypeError::BadCharacter('>')));
        assert!(EventType::parse(&"a".repeat(MAX_TYPE_LENGTH)).is_ok());
    }

    /// The definition of matching, written as a recursion over lists.
    fn naive(pattern: &[&str], event_type: &[&str]) -> bool {
        match (pattern, event_type) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([literal, rest @ ..], [segment, tail @ ..]) => literal == segment && naive(rest, tail),
            _ => false,
        }
    }

    fn segments(of: &'static str) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(of, 1..5)
    }

    proptest! {
        #[test]
        fn pattern_matching_agrees_with_a_recursive_definition(
            event_type in segments("[ab]{1,2}"),
            mut pattern in segments("[ab]{1,2}|\\*"),
            open_ended in any::<bool>(),
        ) {
            if open_ended {
                pattern.push(">".to_owned());
            }
            let as_strs = |v: &[String]| v.iter().map(String::as_str).collect::<Vec<_>>().join(".");
            let (pattern, event_type) = (as_strs(&pattern), as_strs(&event_type));
            let expected =
                naive(&pattern.split('.').collect::<Vec<_>>(), &event_type.split('.').collect::<Vec<_>>());
            let got = Pattern::parse(&pattern).unwrap().matches(&EventType::parse(&event_type).unwrap());
            prop_assert_eq!(got, expected, "{} on {}", pattern, event_type);
        }

        #[test]
        fn parsing_any_text_does_not_panic_and_a_type_matches_itself(text in "(?s:.){0,12}|[a.*>_-]{0,12}") {
            let event_type = EventType::parse(&text);
            let pattern = Pattern::parse(&text);
            if let (Ok(pattern), Ok(event_type)) = (&pattern, &event_type) {
                prop_assert_eq!(pattern.matches(event_type), true);
            }
            prop_assert_eq!(event_type.is_ok() && pattern.is_err(), false);
        }
    }
}
