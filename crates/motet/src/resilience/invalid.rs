use std::error::Error;
use std::fmt;

/// The error of an invalid setting of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPolicy(&'static str);

impl InvalidPolicy {
    /// Returns an error with the text `must` unless `holds`.
    pub(crate) fn unless(holds: bool, must: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self(must)) }
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for InvalidPolicy {}
