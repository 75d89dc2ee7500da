use std::error::Error;
use std::fmt;

use super::PartDescription;
use crate::task::Name;

/// Says that a chain has no part of the name that another was to be put beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchPart {
    pub(super) name: String,
    pub(super) parts: Vec<Name>,
}

impl NoSuchPart {
    pub(super) fn new<'p>(name: &str, parts: impl Iterator<Item = &'p PartDescription>) -> Self {
        Self { name: name.to_owned(), parts: parts.map(|part| part.name.clone()).collect() }
    }

    /// Gives the name that was looked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NoSuchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chain has no part `{}`; ", self.name)?;
        if self.parts.is_empty() {
            return f.write_str("it has none at all");
        }
        f.write_str("it has ")?;
        for (at, part) in self.parts.iter().enumerate() {
            write!(f, "{}`{part}`", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Error for NoSuchPart {}
