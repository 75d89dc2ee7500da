use std::fmt;

/// How long a component lives, and who shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifetime {
    /// One for the container: built at its start, stopped at its end.
    Singleton,
    /// One for each [`Scoped`](super::Scoped): built when it is first asked for, stopped at the end of its scope.
    Scoped,
    /// One for each component that needs it, whose it is: stopped right after that one.
    Transient,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Singleton => "singleton",
            Self::Scoped => "scoped",
            Self::Transient => "transient",
        })
    }
}
