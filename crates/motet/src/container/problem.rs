use std::error::Error;
use std::fmt;
use std::panic::Location;

use super::provider::Lifetime;
use crate::task::Name;

/// The error of a graph with problems.
#[derive(Debug)]
pub struct CheckError(pub(crate) Vec<Problem>);

impl CheckError {
    /// The problems, in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the container has 1 problem"),
            count => write!(f, "the container has {count} problems"),
        }?;
        self.0.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}

impl Error for CheckError {}

/// A provided component, and the place in the source where it was provided.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProvidedAt {
    /// The module and the type of the component.
    pub name: Name,
    /// The place where it was provided.
    pub site: &'static Location<'static>,
    /// The lifetime of the component: singleton, scoped or transient.
    pub lifetime: Lifetime,
}

/// A problem in the graph of a container.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A required component is not provided.
    Missing {
        /// The missing component.
        what: String,
        /// For each component that needs it, the path from a component that no other component needs down to it.
        needed_by: Vec<Vec<ProvidedAt>>,
        /// Suggestions for the intended component.
        hints: Vec<String>,
    },
    /// A cycle: each component needs the next one, and the last needs the first.
    Cycle(Vec<ProvidedAt>),
    /// The first component is a singleton and needs the last one, which is scoped, through the components between them.
    Outlives(Vec<ProvidedAt>),
    /// Several providers provide the same component.
    Duplicate {
        /// The component.
        what: String,
        /// The providers.
        providers: Vec<ProvidedAt>,
    },
    /// A hook has no effect: it is set twice or for an input, or it is a health check of a component that is not a
    /// singleton.
    InvalidHook {
        /// The component.
        provider: ProvidedAt,
        /// The explanation, with the hook.
        reason: String,
    },
    /// An override replaces no provider.
    UselessOverride {
        /// The component that it provides.
        what: String,
        /// The override.
        place: ProvidedAt,
        /// Suggestions for the intended component.
        hints: Vec<String>,
    },
}

impl fmt::Display for ProvidedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.name, self.site)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, needed_by, hints } => {
                write!(f, "missing: `{what}`")?;
                for path in needed_by {
                    let mut up = path.iter().rev();
                    up.next().map_or(Ok(()), |place| write!(f, "\n  needed by {place}"))?;
                    up.try_for_each(|place| write!(f, "\n    for {place}"))?;
                }
                write_hints(hints, f)
            }
            Self::Cycle(places) => {
                f.write_str("cycle:")?;
                let last = places.len().saturating_sub(1);
                for (at, place) in places.iter().enumerate() {
                    let rail = match at {
                        _ if last == 0 => "<->",
                        0 => "+->",
                        _ if at == last => "+--",
                        _ => "|  ",
                    };
                    write!(f, "\n  {rail} {place}")?;
                    if at != last {
                        f.write_str("\n  |     needs")?;
                    }
                }
                Ok(())
            }
            Self::Outlives(places) => {
                f.write_str("singleton depends on a scoped component:")?;
                for (at, place) in places.iter().enumerate() {
                    let needs = if at == 0 { "" } else { "needs " };
                    write!(f, "\n  {:indent$}{needs}{place}, {}", "", place.lifetime, indent = at * 2)?;
                }
                Ok(())
            }
            Self::Duplicate { what, providers } => {
                write!(f, "provided more than once: `{what}`")?;
                providers.iter().try_for_each(|place| write!(f, "\n  by {place}"))?;
                f.write_str("\n  give each a tag with `named`, or put it into `overrides`")
            }
            Self::InvalidHook { provider, reason } => {
                write!(f, "invalid hook: {reason}\n  provided by {provider}")
            }
            Self::UselessOverride { what, place, hints } => {
                write!(f, "overrides nothing: `{what}`\n  provided by {place}")?;
                write_hints(hints, f)
            }
        }
    }
}

fn write_hints(hints: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    hints.iter().try_for_each(|hint| write!(f, "\n  {hint}"))
}
