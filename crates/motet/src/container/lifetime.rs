use std::fmt;

/// The lifetime of a component, and which components share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifetime {
    /// The container has one instance, which is built at its start and stopped at its end.
    Singleton,
    /// Each [`Scoped`](super::Scoped) has one instance, which is built when it is first requested, and stopped at the
    /// end of its scope.
    Scoped,
    /// Each component that depends on it has its own instance, which is stopped right after that component.
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
