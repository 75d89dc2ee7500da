//! The options of `key`.

use clap::{Args, Subcommand};

use super::ControlArgs;
use super::parse::{parse_expiry, parse_key_id};
use crate::access::KeyScope;
use crate::control::{CommandError, ControlTarget};

/// Options of `key`.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    pub(super) action: KeyAction,
}

impl KeyArgs {
    pub(crate) const fn action(&self) -> &KeyAction {
        &self.action
    }
}

/// The commands of `key`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyAction {
    /// Create a key, and print it; it cannot be shown again
    Create(CreateKeyArgs),
    /// List all keys, newest first
    List(ListKeysArgs),
    /// Revoke a key
    Revoke(RevokeKeyArgs),
}

impl KeyAction {
    pub(crate) fn target(&self) -> Result<ControlTarget, CommandError> {
        match self {
            Self::Create(args) => args.control.target(),
            Self::List(args) => args.control.target(),
            Self::Revoke(args) => args.control.target(),
        }
    }
}

/// Options of `key create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateKeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Name, for people
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) name: String,

    /// Scopes, separated by commas: publish, read, read_payload (with read), manage, secrets, replay, or admin for
    /// everything. May be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    pub(crate) scopes: Vec<KeyScope>,

    /// The only tenant that the key is for. Default: all tenants
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,

    /// When the key expires: after a time, such as 90d or 12h, or at a time, such as 2030-01-31T00:00:00Z. Default: never
    #[arg(long, value_name = "WHEN", value_parser = parse_expiry)]
    pub(crate) expires: Option<KeyExpiry>,

    /// Print the key with its properties as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// When a new key expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyExpiry {
    /// After a number of seconds.
    In(u64),
    /// At a time, as in RFC 3339.
    At(String),
}

/// Options of `key list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListKeysArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// List only the keys of this tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,

    /// Print the keys as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `key revoke`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RevokeKeyArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// Id of the key: the part between `rk_` and the next `_`
    #[arg(value_name = "ID", value_parser = parse_key_id)]
    id: String,
}

impl RevokeKeyArgs {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}
