use std::error::Error;
use std::fmt;

/// The settings of a policy do not make sense: says which, and what they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPolicy(&'static str);

impl InvalidPolicy {
    /// `Ok` where `holds`; the error says what must.
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
