use std::io;
use std::path::PathBuf;

use http::StatusCode;
use motet_http::ClientConfigError;
use thiserror::Error;

use crate::error::StartError;
use crate::settings::Mistake;
use crate::store::RestoreError;

/// The reason why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The directory has no store.
    #[error(
        "there is no store in {}; start relay with this directory first, or name another one with --data, or a running relay with --server",
        directory.display()
    )]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// A relay uses the directory and does not listen on its control socket.
    #[error(
        "the data directory {} is in use by {holder}, which has no control socket (its log has the reason); name the running relay with --server and --key",
        directory.display()
    )]
    NoSocket {
        /// The directory.
        directory: PathBuf,
        /// The process that uses the directory, as named in the lock file.
        holder: String,
    },
    /// The control socket cannot be used.
    #[error("cannot connect to {}; run the command as the user of relay", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The store of a stopped relay cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Settings contradict each other.
    #[error(transparent)]
    Settings(StartError),
    /// A variable of the environment has the prefix of settings and names none.
    #[error("the environment is not valid: {0}")]
    UnknownVariable(Mistake),
    /// The command deletes nothing itself.
    #[error("relay deletes by itself while it serves; --dry-run shows what it would delete now")]
    OnlyDryRun,
    /// An erasure was not confirmed.
    #[error("nothing was erased; answer yes, or confirm with --yes where no terminal is")]
    NotConfirmed,
    /// A running relay has all keys of its store.
    #[error("relay runs, so it has the keys of its store; --lost-key is for the store of a stopped relay")]
    LostKeyOfRunning,
    /// relay cannot encrypt the secrets.
    #[error("the secrets are not encrypted yet: {0}; the next start of relay continues")]
    Rekey(String),
    /// No key was given for a server.
    #[error("--server needs an API key: set --key, or the environment variable RELAY_KEY")]
    NoKey,
    /// The URL of the server is not valid.
    #[error("the server's URL cannot be used")]
    Url(#[from] ClientConfigError),
    /// The server did not answer.
    #[error(transparent)]
    Call(#[from] motet_http::Error),
    /// relay refused the request.
    #[error("{detail} ({status})")]
    Refused {
        /// The status of the response.
        status: StatusCode,
        /// The reason.
        detail: String,
    },
    /// The response is not that of a relay of this version.
    #[error("the response is not that of a relay of this version")]
    Answer(#[source] serde_json::Error),
    /// The source of an import refused a request.
    #[error("the source of the import refused a request: {detail} ({status})")]
    Source {
        /// The status of the response.
        status: StatusCode,
        /// The reason.
        detail: String,
    },
    /// No token was given for the source of an import.
    #[error("the source of the import needs a token: set --token, or the environment variable SVIX_TOKEN")]
    NoToken,
    /// The backup was not restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The backup failed.
    #[error("there is no backup: {0}")]
    Backup(String),
    /// The output of the command cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A new key could not be shown, so it was revoked.
    #[error("the new API key could not be shown and was revoked; the other keys stay valid")]
    NotShown(#[source] io::Error),
    /// The command was stopped.
    #[error("the command did not end: {0}")]
    Ended(String),
}
