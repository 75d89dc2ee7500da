use std::error::Error;
use std::fmt;

use super::PartDescription;
use crate::task::Name;

/// The error of a chain that has no part with the requested name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchPart {
    pub(super) name: String,
    pub(super) parts: Vec<Name>,
}

impl NoSuchPart {
    pub(super) fn new<'p>(name: &str, parts: impl Iterator<Item = &'p PartDescription>) -> Self {
        Self { name: name.to_owned(), parts: parts.map(|part| part.name.clone()).collect() }
    }

    /// The name that was requested.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NoSuchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chain has no part `{}`; ", self.name)?;
        if self.parts.is_empty() {
            return f.write_str("it has no parts");
        }
        f.write_str("it has ")?;
        for (at, part) in self.parts.iter().enumerate() {
            write!(f, "{}`{part}`", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Error for NoSuchPart {}
