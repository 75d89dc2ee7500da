use std::error::Error;
use std::fmt;
use std::panic::Location;

use super::Lifetime;
use crate::task::Name;

/// Everything that is wrong with the graph of a container.
#[derive(Debug)]
pub struct CheckFailed(pub(crate) Vec<Problem>);

impl CheckFailed {
    /// Gives the problems.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for CheckFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the container has a problem"),
            count => write!(f, "the container has {count} problems"),
        }?;
        self.0.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}

impl Error for CheckFailed {}

/// A component, and where in the source it was provided.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Place {
    /// Its module and type.
    pub name: Name,
    /// Where it was provided.
    pub site: &'static Location<'static>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// Something that is wrong with the graph of a container.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// Nobody provides what is needed.
    Missing {
        /// What is needed.
        what: String,
        /// Who needs it: for each, the way from a component that nobody needs down to it.
        needed_by: Vec<Vec<Place>>,
        /// What might have been meant.
        hints: Vec<String>,
    },
    /// Each of these needs the next one, and the last the first.
    Cycle(Vec<Place>),
    /// The first, a singleton, outlives the last, which is scoped and which it needs, through those between.
    Outlives(Vec<Place>),
    /// Several provide the same.
    Duplicate {
        /// What they provide.
        what: String,
        /// Who.
        providers: Vec<Place>,
    },
    /// An override replaces nothing.
    UselessOverride {
        /// What it provides.
        what: String,
        /// The override.
        place: Place,
        /// What might have been meant.
        hints: Vec<String>,
    },
}

impl fmt::Display for Place {
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
                f.write_str("outlives what it needs:")?;
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
