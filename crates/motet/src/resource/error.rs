use std::error::Error;
use std::fmt;

use super::ReleaseError;

/// The error of opening, using or releasing a resource.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResourceError<E> {
    /// The resource could not be opened, and there was nothing to release.
    Open(E),
    /// Opening the resource panicked, or the runtime shut down before it was open.
    OpenEnded,
    /// The scope has ended and opens no more resources.
    ScopeClosed,
    /// The use failed. The resource was released; the release may have failed as well.
    Use {
        /// The error of the use.
        error: E,
        /// The error of the release, if the release failed.
        release: Option<ReleaseError>,
    },
    /// The use returned a value, but the resource could not be released.
    Release(ReleaseError),
}

impl<E> ResourceError<E> {
    /// Returns the error of opening or using the resource; `None` if neither returned one.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Open(error) | Self::Use { error, .. } => Some(error),
            Self::OpenEnded | Self::ScopeClosed | Self::Release(_) => None,
        }
    }
}

impl<E> fmt::Display for ResourceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("the resource could not be opened"),
            Self::OpenEnded => f.write_str("opening the resource panicked or was cut off"),
            Self::ScopeClosed => f.write_str("the scope has ended and opens no more resources"),
            Self::Use { release: None, .. } => f.write_str("the use of the resource failed"),
            Self::Use { release: Some(_), .. } => {
                f.write_str("the use of the resource failed, and so did its release")
            }
            Self::Release(_) => f.write_str("the resource could not be released"),
        }
    }
}

impl<E: Error + 'static> Error for ResourceError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open(error) | Self::Use { error, .. } => Some(error),
            Self::OpenEnded | Self::ScopeClosed => None,
            Self::Release(failed) => Some(failed),
        }
    }
}
