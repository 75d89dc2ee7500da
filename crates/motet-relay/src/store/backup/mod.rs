//! Backups of the store: copies that are consistent, checked and on the disk before they have their name.

mod file;
mod live;
mod names;
mod run;
#[cfg(test)]
mod tests;

pub(super) use self::file::{PartialBackup, create_directory, remove_partial};
pub(super) use self::live::CopiedConnection;
pub(super) use self::names::before_upgrade;
pub(super) use self::run::Backups;
pub(crate) use self::run::{EndedBackup, RunningBackup, keep_backups};
