//! Checks of JSON texts: whether an event's data can be parsed by receivers, and whether two texts have the same
//! value, by their canonical forms.
//!
//! serde_json only skips over the data of an event, so it does not find the errors that this module finds.

use std::fmt;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// Maximum depth of nested arrays and objects, including the object of the request.
const MAX_LEVELS: usize = 128;

/// The reason why `data` is not accepted although it is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonDataError {
    /// Nested too deeply: parsers of receivers limit the depth, most of them to 128 or more.
    TooDeep,
    /// `\ud800` to `\udfff` without its other half: it stands for no character, and parsers reject it.
    LoneSurrogate {
        /// The offset of the escape in bytes.
        at: usize,
    },
}

impl fmt::Display for JsonDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => {
                write!(f, "arrays and objects are nested more than {} levels deep", MAX_LEVELS - 1)
            }
            Self::LoneSurrogate { at } => {
                write!(f, "the escape at byte {at} is half of a surrogate pair; send both halves")
            }
        }
    }
}

/// Checks the data of an event. `json` must be valid JSON.
pub(crate) fn check(json: &str) -> Result<(), JsonDataError> {
    let bytes = json.as_bytes();
    // The request is an object around the data.
    let (mut at, mut levels, mut in_string) = (0, 1_usize, false);
    while let Some(byte) = bytes.get(at) {
        match (in_string, byte) {
            (_, b'"') => in_string = !in_string,
            (true, b'\\') => {
                match unit(bytes, at) {
                    Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
                        Some(0xdc00..=0xdfff) => at += 6 + 4,
                        _ => return Err(JsonDataError::LoneSurrogate { at }),
                    },
                    Some(0xdc00..=0xdfff) => return Err(JsonDataError::LoneSurrogate { at }),
                    _ => {}
                }
                // Skips the escaped character, which may be a quotation mark.
                at += 1;
            }
            (false, b'[' | b'{') => {
                levels += 1;
                if levels > MAX_LEVELS {
                    return Err(JsonDataError::TooDeep);
                }
            }
            (false, b']' | b'}') => levels = levels.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// A canonical value that is longer than this is replaced by its hash in the value around it. So the work is linear in
/// the length of the text, however deeply it is nested.
const MAX_PLAIN: usize = 64;

/// Begins the hash of a value. No other byte of a canonical text is a control character.
const HASHED: u8 = 1;

/// Returns the canonical form of a JSON text, which has passed [`check`]: two texts have the same form exactly if they
/// differ only in the order of keys, in white space, and in how the characters of strings are escaped. Numbers are
/// compared as text: as floating-point numbers, two different numbers could be equal. Returns `None` if the text is not
/// JSON.
///
/// The form has at most [`MAX_PLAIN`] bytes: parts that are longer are replaced by their hashes.
pub(crate) fn canonical(json: &str) -> Option<Vec<u8>> {
    let mut writer = Canonical { rest: json, written: Vec::new() };
    writer.value()?;
    writer.rest.trim_ascii_start().is_empty().then_some(writer.written)
}

/// Writes JSON with sorted keys and without white space.
struct Canonical<'a> {
    rest: &'a str,
    written: Vec<u8>,
}

impl Canonical<'_> {
    /// Writes the next value; `None` if the text is not JSON.
    fn value(&mut self) -> Option<()> {
        let start = self.written.len();
        match self.peek()? {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => self.string()?,
            _ => {
                let end = self.rest.find(|c: char| ",]} \t\n\r".contains(c)).unwrap_or(self.rest.len());
                let (scalar, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.written.extend_from_slice(scalar.as_bytes());
                (!scalar.is_empty()).then_some(())?;
            }
        }
        if self.written.len() - start > MAX_PLAIN {
            let hash: [u8; 32] = Sha256::digest(&self.written[start..]).into();
            self.written.truncate(start);
            self.written.push(HASHED);
            self.written.extend_from_slice(&hash);
        }
        Some(())
    }

    fn object(&mut self) -> Option<()> {
        self.written.push(b'{');
        let start = self.written.len();
        // Each member with the end of its key.
        let mut members: Vec<(Range<usize>, usize)> = Vec::new();
        self.items(b'{', b'}', |this| {
            let from = this.written.len();
            this.string()?;
            let key_end = this.written.len();
            this.take(b':')?;
            this.written.push(b':');
            this.value()?;
            this.written.push(b',');
            members.push((from..this.written.len(), key_end));
            Some(())
        })?;
        let key = |(member, key_end): &(Range<usize>, usize)| &self.written[member.start..*key_end];
        // A stable sort: the order of duplicate keys matters.
        if !members.is_sorted_by(|left, right| key(left) <= key(right)) {
            members.sort_by(|left, right| key(left).cmp(key(right)));
            let sorted: Vec<_> =
                members.iter().flat_map(|(member, _)| &self.written[member.clone()]).copied().collect();
            self.written.truncate(start);
            self.written.extend_from_slice(&sorted);
        }
        self.written.push(b'}');
        Some(())
    }

    fn array(&mut self) -> Option<()> {
        self.written.push(b'[');
        self.items(b'[', b']', |this| {
            this.value()?;
            this.written.push(b',');
            Some(())
        })?;
        self.written.push(b']');
        Some(())
    }

    /// Reads the comma-separated items between two brackets.
    fn items(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        if self.peek()? == close {
            return self.take(close);
        }
        loop {
            item(self)?;
            match self.peek()? {
                b',' => self.take(b',')?,
                _ => return self.take(close),
            }
        }
    }

    /// Writes the next string as serde_json writes it.
    fn string(&mut self) -> Option<()> {
        self.peek().filter(|next| *next == b'"')?;
        let (mut is_escaped, mut has_escapes) = (false, false);
        let end = self.rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            has_escapes |= is_escaped;
            ends
        })?;
        let (text, rest) = self.rest.split_at(end + 2);
        self.rest = rest;
        if has_escapes {
            let decoded: String = serde_json::from_str(text).ok()?;
            self.written.extend_from_slice(serde_json::to_string(&decoded).ok()?.as_bytes());
        } else {
            self.written.extend_from_slice(text.as_bytes());
        }
        Some(())
    }

    /// Returns the next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.bytes().next()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        self.peek().filter(|next| *next == expected)?;
        self.rest = &self.rest[1..];
        Some(())
    }
}

/// Returns the code unit of the escape (`\u` and four hex digits) that begins at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn is_same_value(left: &str, right: &str) -> bool {
        let [left, right] = [left, right].map(|json| canonical(json).unwrap());
        assert!(left.len() <= MAX_PLAIN && right.len() <= MAX_PLAIN);
        left == right
    }

    #[test]
    fn large_json_values_are_compared_by_their_hashes() {
        let long = "x".repeat(1_000);
        let of = |members: &[&str]| format!("{{{}}}", members.join(","));
        let [a, b] = ["a", "b"].map(|key| format!("\"{key}\": [{{\"y\":1, \"{long}\":2}}]"));
        let other = format!("\"b\": [{{\"y\":1, \"{long}\":3}}]");
        assert!(is_same_value(&of(&[&a, &b]), &of(&[&b, &a])));
        assert!(is_same_value(&of(&[&b]), &format!("{{\"b\":[{{\"{long}\":2,\"y\":1}}]}}")));
        assert!(!is_same_value(&of(&[&a, &b]), &of(&[&a, &other])));
        assert!(!is_same_value(&of(&[&a, &b]), &of(&[&a])));
        // The text of a hash is no value.
        assert_eq!(canonical("[1] 2"), None);
        assert_eq!(canonical("[1"), None);
    }

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_refused() {
        assert_eq!(check(&nested(MAX_LEVELS - 1)), Ok(()));
        assert_eq!(check(&nested(MAX_LEVELS)), Err(JsonDataError::TooDeep));
        assert_eq!(check(&"{\"a\":".repeat(200)), Err(JsonDataError::TooDeep));
        // Arrays side by side are not nested, and brackets in a string do not count.
        assert_eq!(check(&format!("[{}[]]", "[],".repeat(1_000))), Ok(()));
        assert_eq!(check(&format!("\"{}\"", "[{\\\"".repeat(1_000))), Ok(()));
    }

    #[test]
    fn json_values_are_compared_without_key_order_and_white_space() {
        for (left, right, is_same) in [
            (r#"{"a":1,"b":[1,2]}"#, " { \"b\" : [ 1 , 2 ] ,\n\"a\":1 } ", true),
            (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#, true),
            (r#""é \"""#, r#""\u00e9 \u0022""#, true),
            (r#"{"a b":1}"#, r#"{"ab":1}"#, false),
            ("[1,2]", "[2,1]", false),
            ("[]", "[[]]", false),
            ("1", "1.0", false),
            ("9007199254740993", "9007199254740992", false),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            ("null", "false", false),
            (r#""1""#, "1", false),
        ] {
            assert_eq!(is_same_value(left, right), is_same, "{left} and {right}");
            assert_eq!(is_same_value(right, left), is_same, "{right} and {left}");
            assert!(is_same_value(left, left), "{left}");
        }
    }

    /// JSON without numbers that a parser would round.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_i64..9).prop_map(Value::from),
            "[a\"\\\\ é\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab\"é]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_texts_of_two_values_are_equal_exactly_if_the_values_are(left in json(), right in json()) {
            let (plain, pretty) = (left.to_string(), serde_json::to_string_pretty(&left).unwrap());
            prop_assert!(is_same_value(&plain, &pretty), "{}", plain);
            prop_assert_eq!(is_same_value(&plain, &right.to_string()), left == right, "{} {}", left, right);
        }

        /// Parts of strings in any order, so that each half of a surrogate pair is followed by every possible part.
        #[test]
        fn json_strings_are_accepted_exactly_if_a_parser_accepts_them(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "\\ud800", "\\uDBFF", "\\udc00", "\\uDFFF", "\\u0041", "\\\\", "\\\"", "\\n", "u", "d800", "é", "[", "}",
                ]),
                0..8,
            )
        ) {
            let json = format!("[\"{}\"]", pieces.concat());
            let parsed = serde_json::from_str::<Value>(&json);
            prop_assert_eq!(check(&json).is_ok(), parsed.is_ok(), "{}: {:?}", json, parsed);
        }
    }
}
