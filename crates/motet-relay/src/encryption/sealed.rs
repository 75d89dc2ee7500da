//! Encrypted values: `enc1:` and the base64 of the length of the key's id, the id, the nonce, the ciphertext and the tag.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use thiserror::Error;

use super::SecretKeys;

/// No secret in clear text begins with it: those begin with `whsec_`, a digit or a brace.
const PREFIX: &str = "enc1:";

/// The reason why a value was not encrypted.
#[derive(Debug, Error)]
pub(crate) enum SealError {
    #[error("the operating system returned no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the value is too long to be encrypted")]
    TooLong,
}

/// The reason why a value was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum UnsealError {
    /// The value does not have the form of an encrypted value.
    #[error("it does not have the form of an encrypted value")]
    Malformed,
    /// The key file does not have the key.
    #[error("it is encrypted with the key {0}, which the key file does not have")]
    UnknownKey(String),
    /// The key file has another key with this id, or the value was changed or copied from another place.
    #[error(
        "the key {0} does not decrypt it: the key is another one, or the value was changed or copied from another row"
    )]
    Mismatch(String),
}

/// Returns `true` if a stored value is encrypted.
pub(crate) fn is_sealed(stored: &str) -> bool {
    stored.starts_with(PREFIX)
}

/// Encrypts a value with the first key. `place` is where the value is stored: it decrypts nowhere else.
pub(crate) fn seal(keys: &SecretKeys, place: &str, plain: &str) -> Result<String, SealError> {
    let key = keys.first();
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(SealError::Random)?;
    let id_length = u8::try_from(key.id.len()).map_err(|_| SealError::TooLong)?;
    let tag_length = AES_256_GCM.tag_len();
    let head = 1 + key.id.len() + NONCE_LEN;
    let mut blob = Vec::with_capacity(head + plain.len() + tag_length);
    blob.push(id_length);
    blob.extend(key.id.as_bytes());
    blob.extend(nonce);
    blob.extend(plain.as_bytes());
    let (nonce, place) = (Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()));
    let tag = key.cipher.seal_in_place_separate_tag(nonce, place, &mut blob[head..]);
    blob.extend(tag.map_err(|_| SealError::TooLong)?.as_ref());
    let mut text = String::with_capacity(PREFIX.len() + blob.len().div_ceil(3) * 4);
    text.push_str(PREFIX);
    STANDARD_NO_PAD.encode_string(blob, &mut text);
    Ok(text)
}

/// Decrypts a value of `place`. Returns the value and the id of its key.
pub(crate) fn unseal(keys: &SecretKeys, place: &str, sealed: &str) -> Result<(String, String), UnsealError> {
    let encoded = sealed.strip_prefix(PREFIX).ok_or(UnsealError::Malformed)?;
    let mut blob = STANDARD_NO_PAD.decode(encoded).map_err(|_| UnsealError::Malformed)?;
    let (id_length, rest) = blob.split_first_mut().ok_or(UnsealError::Malformed)?;
    let (id, rest) = rest.split_at_mut_checked(usize::from(*id_length)).ok_or(UnsealError::Malformed)?;
    let id = std::str::from_utf8(id).map_err(|_| UnsealError::Malformed)?.to_owned();
    let (nonce, ciphertext) = rest.split_at_mut_checked(NONCE_LEN).ok_or(UnsealError::Malformed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Malformed)?;
    let Some(key) = keys.find(&id) else { return Err(UnsealError::UnknownKey(id)) };
    let Ok(plain) = key.cipher.open_in_place(nonce, Aad::from(place.as_bytes()), ciphertext) else {
        return Err(UnsealError::Mismatch(id));
    };
    let plain = std::str::from_utf8(plain).map_err(|_| UnsealError::Malformed)?;
    Ok((plain.to_owned(), id))
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::line;
    use super::*;

    const PLACE: &str = "store|endpoints|secret|7";

    fn keys(lines: &[(&str, u8)]) -> SecretKeys {
        let text: String = lines.iter().map(|(id, byte)| line(id, *byte)).collect();
        SecretKeys::parse(&text).unwrap()
    }

    #[test]
    fn value_decrypts_with_its_key_at_its_place_only() {
        let old = keys(&[("k1", 1)]);
        let sealed = seal(&old, PLACE, "whsec_AAAA").unwrap();
        assert!(is_sealed(&sealed) && !sealed.contains("whsec") && !is_sealed("whsec_AAAA"));
        let opened = ("whsec_AAAA".to_owned(), "k1".to_owned());
        assert_eq!(unseal(&old, PLACE, &sealed), Ok(opened.clone()));
        assert_eq!(unseal(&keys(&[("k2", 2), ("k1", 1)]), PLACE, &sealed), Ok(opened));
        let unknown = unseal(&keys(&[("k2", 2)]), PLACE, &sealed);
        assert_eq!(unknown, Err(UnsealError::UnknownKey("k1".to_owned())));
        let mismatch = Err(UnsealError::Mismatch("k1".to_owned()));
        assert_eq!(unseal(&keys(&[("k1", 9)]), PLACE, &sealed), mismatch);
        for other in ["store|endpoints|secret|8", "store|endpoints|headers|7", "other|endpoints|secret|7"] {
            assert_eq!(unseal(&old, other, &sealed), mismatch, "{other}");
        }
    }

    #[test]
    fn two_encryptions_of_a_value_differ() {
        let keys = keys(&[("k1", 1)]);
        assert_ne!(seal(&keys, PLACE, "a").unwrap(), seal(&keys, PLACE, "a").unwrap());
    }

    #[test]
    fn changed_and_shortened_values_are_refused() {
        let keys = keys(&[("k1", 1)]);
        let sealed = seal(&keys, PLACE, "whsec_AAAA").unwrap();
        for end in 0..sealed.len() {
            assert!(unseal(&keys, PLACE, &sealed[..end]).is_err(), "{end}");
        }
        let blob = STANDARD_NO_PAD.decode(&sealed[PREFIX.len()..]).unwrap();
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            let changed = format!("{PREFIX}{}", STANDARD_NO_PAD.encode(changed));
            assert!(unseal(&keys, PLACE, &changed).is_err(), "{at}");
        }
        assert_eq!(unseal(&keys, PLACE, "whsec_AAAA"), Err(UnsealError::Malformed));
        assert_eq!(unseal(&keys, PLACE, "enc1:"), Err(UnsealError::Malformed));
    }
}
