use std::error::Error;
use std::fmt;

use super::ReleaseError;

/// Says what went wrong with a resource.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResourceError<E> {
    /// It could not be opened; there was nothing to release.
    Open(E),
    /// Opening it panicked, or the runtime went away meanwhile.
    OpenEnded,
    /// The scope has ended and opens no more resources.
    ScopeClosed,
    /// The use failed. The resource was released, and that may have failed, too.
    Use {
        /// What the use returned.
        error: E,
        /// What went wrong with the release after it.
        release: Option<ReleaseError>,
    },
    /// The use returned a value, but the resource could not be released.
    Release(ReleaseError),
}

impl<E> ResourceError<E> {
    /// Gives the error that opening or using returned; `None` if neither did.
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
