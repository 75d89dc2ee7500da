//! The options of the commands for the store: retention, erasures, keys of secrets, backups, checks, restores.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ControlArgs;
use super::parse::{Keep, parse_keep};
use crate::config::Config;
use crate::control::{CommandError, ControlTarget};

/// Options of `retention`.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Show what would be deleted with this time in place of relay's --payload-keep
    #[arg(long, value_name = "TIME", value_parser = parse_keep)]
    payload_keep: Option<Keep>,

    /// Show what would be deleted with this time in place of relay's --rows-keep
    #[arg(long, value_name = "TIME", value_parser = parse_keep)]
    rows_keep: Option<Keep>,

    /// Show what would be deleted with this size in place of relay's --max-bytes
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,

    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl RetentionArgs {
    /// Returns the parameters of the request.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let seconds = |keep: Option<Keep>| keep.map(|Keep(keep)| keep.map_or(0, |keep| keep.as_secs()));
        let given = [
            ("payload_keep_s", seconds(self.payload_keep)),
            ("rows_keep_s", seconds(self.rows_keep)),
            ("max_bytes", self.max_bytes),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
    }
}

/// Options of `erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    #[command(subcommand)]
    action: EraseAction,
}

/// The objects that can be erased.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum EraseAction {
    /// Erase the data of an event, its uid and the responses to its attempts
    Event(EraseEventArgs),
    /// Erase a tenant with all that it owns
    Tenant(EraseTenantArgs),
    /// Erase the data of all events of a tenant, their uids and the responses to their attempts
    Payloads(ErasePayloadsArgs),
}

/// Options of `erase event`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseEventArgs {
    /// Id of the event
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// Tenant of the event
    #[arg(long, value_name = "TENANT", default_value = "default")]
    pub(crate) tenant: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// Options of `erase tenant`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseTenantArgs {
    /// Id of the tenant
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// Options of `erase payloads`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ErasePayloadsArgs {
    /// Tenant of the events
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: String,

    #[command(flatten)]
    confirmed: ConfirmArgs,
}

/// The relay of an erasure, and its confirmation.
#[derive(Debug, Clone, Args)]
struct ConfirmArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Erase without a question
    #[arg(long)]
    yes: bool,
}

impl EraseArgs {
    pub(crate) const fn action(&self) -> &EraseAction {
        &self.action
    }

    const fn confirmed(&self) -> &ConfirmArgs {
        match &self.action {
            EraseAction::Event(EraseEventArgs { confirmed, .. })
            | EraseAction::Tenant(EraseTenantArgs { confirmed, .. })
            | EraseAction::Payloads(ErasePayloadsArgs { confirmed, .. }) => confirmed,
        }
    }

    pub(crate) const fn control(&self) -> &ControlArgs {
        &self.confirmed().control
    }

    /// Returns `true` if the command must not ask.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed().yes
    }

    /// Returns the question to ask before the erasure.
    #[must_use]
    pub fn question(&self) -> String {
        let what = match &self.action {
            EraseAction::Event(args) => {
                format!("the data of the event {} of the tenant {}", args.id, args.tenant)
            }
            EraseAction::Tenant(args) => {
                format!("the tenant {} with its endpoints, events and keys", args.id)
            }
            EraseAction::Payloads(args) => format!("the data of all events of the tenant {}", args.tenant),
        };
        format!("This erases {what}. It cannot be undone. Write yes to continue: ")
    }
}

/// Options of `rekey`.
#[derive(Debug, Clone, Args)]
pub struct RekeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Id of a key that is lost: relay starts again without it, and the secrets that it encrypts have to be replaced. Only
    /// for a stopped relay
    #[arg(long, value_name = "ID", conflicts_with = "server")]
    lost_key: Option<String>,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

impl RekeyArgs {
    pub(crate) fn target(&self) -> Result<ControlTarget, CommandError> {
        Ok(match self.control.target()? {
            ControlTarget::Data { directory, secret_keys, .. } => {
                ControlTarget::Data { directory, secret_keys, lost_key: self.lost_key.clone() }
            }
            server @ ControlTarget::Server { .. } => server,
        })
    }

    pub(crate) fn lost_key(&self) -> Option<&str> {
        self.lost_key.as_deref()
    }

    pub(crate) const fn json(&self) -> bool {
        self.json
    }
}

/// Options of `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// File of the backup, which must not exist. Default: a new file in the directory of backups
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) to: Option<PathBuf>,

    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Data directory, or the file of a backup
    #[arg(long, value_name = "PATH", default_value = Config::DEFAULT_DATA)]
    pub(crate) data: PathBuf,

    /// Check the pages and the schema only, and not each row
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Options of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup; it stays as it is
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Data directory without a store; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = Config::DEFAULT_DATA)]
    pub(crate) data: PathBuf,

    /// Start with all deliveries paused, so that no event is sent again before you have looked at them; POST /v1/resume
    /// ends the pause
    #[arg(long)]
    pub(crate) hold: bool,

    /// Skip the pending deliveries of events that were published before this time, such as 2030-01-31T00:00:00Z; a replay
    /// sends them
    #[arg(long, value_name = "TIME")]
    pub(crate) skip_before: Option<jiff::Timestamp>,
}
