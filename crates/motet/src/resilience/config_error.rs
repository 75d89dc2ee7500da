use std::error::Error;
use std::fmt;

/// The error of an invalid setting of a policy.
///
/// The message names the setting, its value, and the allowed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfigError {
    setting: &'static str,
    value: String,
    allowed: &'static str,
}

impl PolicyConfigError {
    /// Returns an error unless `is_valid`. `allowed` completes the sentence "must be ..".
    pub(crate) fn unless(
        is_valid: bool,
        setting: &'static str,
        value: impl fmt::Debug,
        allowed: &'static str,
    ) -> Result<(), Self> {
        if is_valid { Ok(()) } else { Err(Self { setting, value: format!("{value:?}"), allowed }) }
    }
}

impl fmt::Display for PolicyConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, allowed } = self;
        write!(f, "`{setting}` is {value}; it must be {allowed}")
    }
}

impl Error for PolicyConfigError {}
