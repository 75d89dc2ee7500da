use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::PolicyKind;
use crate::observe::rounded;
use crate::task::Name;

/// The error of a call that a policy rejected: the operation was not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedError {
    by: PolicyKind,
    name: Option<Name>,
    retry_after: Option<Duration>,
}

impl RejectedError {
    pub(crate) fn new(by: PolicyKind, name: Option<&Name>, retry_after: Option<Duration>) -> Self {
        Self { by, name: name.cloned(), retry_after }
    }

    pub(crate) fn into_parts(self) -> (PolicyKind, Option<Name>, Option<Duration>) {
        (self.by, self.name, self.retry_after)
    }

    /// The policy that rejected the call.
    #[must_use]
    pub fn by(&self) -> PolicyKind {
        self.by
    }

    /// The name of that policy, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(Name::as_str)
    }

    /// How long to wait until a call may pass again, if the policy knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for RejectedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rejected by the ")?;
        write_policy(f, self.by, self.name.as_ref())?;
        write_hint(f, self.retry_after)
    }
}

impl Error for RejectedError {}

/// Writes which policy it was.
pub(super) fn write_policy(f: &mut fmt::Formatter<'_>, by: PolicyKind, name: Option<&Name>) -> fmt::Result {
    match name {
        Some(name) => write!(f, "{by} `{name}`"),
        None => write!(f, "{by}"),
    }
}

/// Writes when to try again, if that is known.
pub(super) fn write_hint(f: &mut fmt::Formatter<'_>, retry_after: Option<Duration>) -> fmt::Result {
    match retry_after {
        Some(after) => write!(f, "; try again in {:?}", rounded(after)),
        None => Ok(()),
    }
}
