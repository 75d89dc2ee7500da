//! Encryption of the secrets in the store: AES-256-GCM, with the keys of a key file.
//!
//! A key file has a line for each key, `id:base64 of 32 bytes`. The first key encrypts, and all keys decrypt, so a new
//! first line is all that a rotation needs. An encrypted value names its key, and is bound to its place in the store:
//! a value that was copied to another row, column or store does not decrypt.
//!
//! The text of a key file is overwritten in memory once it was read. The expanded keys stay in memory for as long as they
//! are in use; `ring` does not overwrite them.

mod key_file;
mod keys;
mod sealed;

pub(crate) use self::key_file::{LocatedKeyFile, create, locate, read as read_key_file};
pub(crate) use self::keys::SecretKeys;
pub(crate) use self::sealed::{SealError, UnsealError, is_sealed, seal, unseal};
