use std::error::Error;
use std::fmt;

use super::description::PartDescription;
use crate::task::Name;

/// The error of a chain that has no part with the requested name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPartError {
    pub(super) name: String,
    pub(super) parts: Vec<Name>,
}

impl UnknownPartError {
    pub(super) fn new<'p>(name: &str, parts: impl Iterator<Item = &'p PartDescription>) -> Self {
        Self { name: name.to_owned(), parts: parts.map(|part| part.name.clone()).collect() }
    }

    /// The name that was requested.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UnknownPartError {
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

impl Error for UnknownPartError {}

/// The error of a call that panicked inside of a [`catch_panic`](super::catch_panic()).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicError {
    message: String,
}

impl PanicError {
    pub(super) fn new(message: String) -> Self {
        Self { message }
    }

    /// The message of the panic.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PanicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call panicked: {}", self.message)
    }
}

impl Error for PanicError {}
