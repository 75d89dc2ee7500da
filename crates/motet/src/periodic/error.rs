use std::error::Error;
use std::fmt;

/// The error of an invalid setting of a periodic job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeriodicConfigError {
    /// The interval is zero.
    NoInterval,
    /// The cron expression cannot be parsed.
    Expression {
        /// The expression.
        expression: String,
        /// The error of the parser.
        reason: String,
    },
    /// The cron expression matches no time in the future, such as February 30.
    NeverDue {
        /// The expression.
        expression: String,
    },
}

impl fmt::Display for PeriodicConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterval => f.write_str("the interval is 0; it must be longer"),
            Self::Expression { expression, reason } => {
                write!(f, "`{expression}` is not a cron expression: {reason}")
            }
            Self::NeverDue { expression } => {
                write!(f, "`{expression}` matches no time in the future; does the month have that day?")
            }
        }
    }
}

impl Error for PeriodicConfigError {}
