//! Standard Webhooks signatures, version 1: HMAC-SHA256 over `id.timestamp.body`.
//!
//! Source: the Standard Webhooks specification 1.0.0, symmetric signatures.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;

const PREFIX: &str = "whsec_";
/// Allowed lengths of a key in bytes: up to 64 in the specification, and up to 75 in Svix.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=75;

/// A text is not a signing secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a secret must be 'whsec_' followed by the base64 of 24 to 75 bytes")]
pub struct SecretError;

/// The signing secret of an endpoint. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    key: Vec<u8>,
}

impl Secret {
    /// Creates a secret of 32 random bytes from the operating system.
    ///
    /// # Errors
    /// The operating system returned no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key })
    }

    /// Parses `whsec_<base64>`.
    ///
    /// # Errors
    /// [`SecretError`] if the text has another form, or the key another length.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let key = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self { key }) } else { Err(SecretError) }
    }

    /// Returns the text form, `whsec_<base64>`, for the configuration of the receiver's library.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.key))
    }

    /// Returns the `webhook-signature` header of one attempt.
    ///
    /// `timestamp` is the time of the attempt in seconds since the Unix epoch, as sent in `webhook-timestamp`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            unreachable!("HMAC takes keys of every length")
        };
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        let mut header = String::with_capacity(48);
        header.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
        header
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_in_the_example_of_the_specification_is_computed() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secret_parses_back_and_its_debug_hides_it() {
        let secret = Secret::generate().unwrap();
        assert_eq!(Secret::parse(&secret.expose()).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn malformed_secrets_are_refused() {
        let short = format!("whsec_{}", STANDARD.encode([0; 23]));
        let long = format!("whsec_{}", STANDARD.encode([0; 76]));
        for text in ["", "whsec_", "whsec_!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long] {
            assert_eq!(Secret::parse(text), Err(SecretError), "{text}");
        }
    }
}
