use std::fmt;

/// How the use of a resource ended, as its release sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The use returned a value: commit.
    Ok,
    /// The use returned an error.
    Err,
    /// The use panicked.
    Panic,
    /// The use was cancelled, or its future was dropped.
    Cancelled,
}

impl Exit {
    /// Returns `true` if the use returned a value.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Err => "error",
            Self::Panic => "panic",
            Self::Cancelled => "cancelled",
        })
    }
}
