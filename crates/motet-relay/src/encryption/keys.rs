//! The keys of a key file.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use crate::error::KeyFileError;

/// Length of a key in bytes.
const KEY_BYTES: usize = 32;

/// Maximum length of the id of a key. An encrypted value stores the length in one byte.
const MAX_ID_BYTES: usize = 64;

/// A key with its id.
pub(super) struct SecretKey {
    pub(super) id: String,
    pub(super) cipher: LessSafeKey,
}

/// The keys that decrypt, at least one. The first one encrypts. `Debug` shows the ids only.
pub(crate) struct SecretKeys(Vec<SecretKey>);

impl SecretKeys {
    /// Parses the lines of a key file.
    pub(super) fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys: Vec<SecretKey> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |why| KeyFileError::Line { number: at + 1, why };
            let (id, key) = line.split_once(':').ok_or_else(|| refused("it has no colon"))?;
            let (id, key) = (id.trim(), key.trim());
            if !is_id(id) {
                return Err(refused(
                    "its id must have 1 to 64 letters, digits, dots, dashes and underscores",
                ));
            }
            if keys.iter().any(|known| known.id == id) {
                return Err(refused("an earlier line has the same id"));
            }
            let bytes = STANDARD.decode(key).map(Zeroizing::new);
            let bytes = bytes.map_err(|_| refused("its key is not base64 with padding"))?;
            let cipher = UnboundKey::new(&AES_256_GCM, &bytes);
            let cipher = cipher.map_err(|_| refused("its key does not have 32 bytes"))?;
            keys.push(SecretKey { id: id.to_owned(), cipher: LessSafeKey::new(cipher) });
        }
        if keys.is_empty() { Err(KeyFileError::NoKeys) } else { Ok(Self(keys)) }
    }

    /// Returns the text of a new key file with one random key.
    pub(super) fn generate() -> Result<Zeroizing<String>, getrandom::Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key)?;
        // A random id: two stores whose key files are confused do not have the same id for different keys.
        let id = getrandom::u32()?;
        let encoded = Zeroizing::new(STANDARD.encode(*key));
        Ok(Zeroizing::new(format!(
            "# Keys of motet-relay: `id:base64 of 32 bytes`. The first key encrypts, and all keys decrypt.\n\
             # Keep a copy of this file in a safe place: without it the secrets in the store are lost.\n\
             k{id:08x}:{}\n",
            *encoded
        )))
    }

    /// The key that encrypts.
    pub(super) fn first(&self) -> &SecretKey {
        &self.0[0]
    }

    /// The id of the key that encrypts.
    pub(crate) fn first_id(&self) -> &str {
        &self.first().id
    }

    pub(super) fn find(&self, id: &str) -> Option<&SecretKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// The ids of all keys, in the order of the file.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

fn is_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A line with a key whose bytes are all `byte`.
    pub(in crate::encryption) fn line(id: &str, byte: u8) -> String {
        format!("{id}:{}\n", STANDARD.encode([byte; KEY_BYTES]))
    }

    #[test]
    fn key_file_has_a_key_per_line_and_comments() {
        let text = format!("# the new key\n\n  {}{}", line("k2", 2), line("k.1_a-b", 1));
        let keys = SecretKeys::parse(&text).unwrap();
        assert_eq!((keys.first_id(), keys.ids().collect::<Vec<_>>()), ("k2", vec!["k2", "k.1_a-b"]));
        assert_eq!(format!("{keys:?}"), r#"["k2", "k.1_a-b"]"#);
        assert!(keys.find("k3").is_none());
    }

    #[test]
    fn malformed_lines_are_refused_with_their_number() {
        let short = format!("k1:{}", STANDARD.encode([1; KEY_BYTES - 1]));
        let long_id = line(&"k".repeat(MAX_ID_BYTES + 1), 1);
        for (text, expected) in [
            ("no colon", "no colon"),
            ("k 1:AAAA", "its id"),
            (":AAAA", "its id"),
            ("k1:!!!", "base64"),
            (&*short, "32 bytes"),
            (&*long_id, "its id"),
        ] {
            let refused = SecretKeys::parse(&format!("# first\n{text}")).unwrap_err().to_string();
            assert!(refused.contains("line 2") && refused.contains(expected), "{text}: {refused}");
        }
        let twice = SecretKeys::parse(&format!("{}{}", line("k1", 1), line("k1", 2))).unwrap_err();
        assert!(twice.to_string().contains("same id"), "{twice}");
        assert!(matches!(SecretKeys::parse("# nothing\n"), Err(KeyFileError::NoKeys)));
    }

    #[test]
    fn errors_do_not_repeat_the_content_of_the_file() {
        for text in ["hunter2", "k1:hunter2", "hunter 2:AAAA"] {
            let refused = SecretKeys::parse(text).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("hunter"), "{refused:?}");
        }
    }

    #[test]
    fn generated_file_is_parsed_and_has_a_key_of_its_own() {
        let [first, second] = [(); 2].map(|()| SecretKeys::generate().unwrap());
        assert_ne!(*first, *second);
        assert_eq!(SecretKeys::parse(&first).unwrap().ids().count(), 1);
    }
}
