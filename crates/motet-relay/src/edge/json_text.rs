//! What JSON may be in an event, beyond what a parser accepts that only skips over it.

use std::fmt;

/// Arrays and objects in one another, that of the request itself included.
const MOST_LEVELS: usize = 128;

/// Why `data` is not accepted although it is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Parsers of receivers bound the depth, most of them at 128 or more.
    TooDeep,
    /// `\ud800` to `\udfff` without its other half stands for no character, and parsers refuse it.
    LoneSurrogate {
        /// Where the escape begins, in bytes.
        at: usize,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(f, "arrays and objects are nested more than {MOST_LEVELS} levels deep"),
            Self::LoneSurrogate { at } => {
                write!(f, "the escape at byte {at} is half of a surrogate pair, which is no character")
            }
        }
    }
}

/// Checks the data of an event, which is known to be JSON.
pub(super) fn check(json: &str) -> Result<(), Unfit> {
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
                        _ => return Err(Unfit::LoneSurrogate { at }),
                    },
                    Some(0xdc00..=0xdfff) => return Err(Unfit::LoneSurrogate { at }),
                    _ => {}
                }
                // The escaped character, which may be a quotation mark.
                at += 1;
            }
            (false, b'[' | b'{') => {
                levels += 1;
                if levels > MOST_LEVELS {
                    return Err(Unfit::TooDeep);
                }
            }
            (false, b']' | b'}') => levels = levels.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The code unit of the escape `\uXXXX` that begins there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(check(&nested(MOST_LEVELS - 1)), Ok(()));
        assert_eq!(check(&nested(MOST_LEVELS)), Err(Unfit::TooDeep));
        assert_eq!(check(&"{\"a\":".repeat(200)), Err(Unfit::TooDeep));
        // Side by side is not inside of one another, and brackets in a string are none.
        assert_eq!(check(&format!("[{}[]]", "[],".repeat(1_000))), Ok(()));
        assert_eq!(check(&format!("\"{}\"", "[{\\\"".repeat(1_000))), Ok(()));
    }

    proptest! {
        /// Pieces of strings in any order, so that halves of pairs meet all that can follow them.
        #[test]
        fn strings_are_accepted_as_a_parser_that_reads_them_does(
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
