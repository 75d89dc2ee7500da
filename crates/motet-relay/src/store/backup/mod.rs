//! Backups of the store.

mod file;
mod names;

pub(super) use self::file::{PartialBackup, create_directory, remove_partial};
pub(super) use self::names::before_upgrade;
