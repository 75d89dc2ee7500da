//! How a [`ScopeError`](super::ScopeError) finds its cause in an error of any type.
//!
//! An error type implements `Error`; a boxed error and `anyhow::Error` dereference to one; a text is neither. No single
//! bound covers them, and two implementations of one trait for them would overlap. So the trait has a parameter, of which
//! each kind of error has its own, and which the compiler infers where a scope is opened. There the function that finds the
//! cause is taken, so that the kind is no part of the type of the error.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::ops::DerefMut;

use super::{Name, TaskError};
use crate::sync::catch;

/// The part of an error of a child in the error of the scope.
pub(crate) enum Cause<'a> {
    /// Its source.
    Source(&'a (dyn Error + 'static)),
    /// A part of its message.
    Text(&'a dyn Display),
    /// Neither: its type has nothing to print, or is not known to have.
    Opaque,
}

impl Cause<'_> {
    /// Returns `true` if the error, or one of its sources, is the [`TaskError`] of this task, which failed. By its text: its type
    /// has the error of its scope as a parameter, about which nothing is known here.
    pub(crate) fn is_failure_of(&self, task: &Name) -> bool {
        let failed = TaskError::<Infallible>::Reported { task: task.clone() }.to_string();
        // Code of the user.
        let is_same = |error: &dyn Display| catch(|| error.to_string()).is_ok_and(|text| text == failed);
        match self {
            Self::Source(error) => {
                let mut next: Option<&dyn Error> = Some(*error);
                while let Some(error) = next {
                    if is_same(&error) {
                        return true;
                    }
                    next = error.source();
                }
                false
            }
            Self::Text(text) => is_same(text),
            Self::Opaque => false,
        }
    }
}

/// Finds the cause in an error.
pub(crate) type FindCause<E> = fn(&E) -> Cause<'_>;

/// Prints the cause and its sources, for a log.
pub(crate) fn printed(cause: &Cause<'_>) -> String {
    match cause {
        Cause::Source(error) => with_sources(*error),
        Cause::Text(text) => text.to_string(),
        Cause::Opaque => "an error of a type that prints nothing".to_owned(),
    }
}

/// Prints an error and its sources in one line.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(&format!(": {error}"));
        source = error.source();
    }
    line
}

pub(crate) fn opaque<E>(_: &E) -> Cause<'_> {
    Cause::Opaque
}

/// The error of a scope: an error type, a boxed error, a type that dereferences to one as `anyhow::Error` does, or a text.
///
/// The compiler infers `Kind`.
#[allow(unnameable_types, reason = "it bounds errors, and is implemented for all that there are")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a scope",
    label = "this scope has the error type `{Self}`",
    note = "implement `std::error::Error` for `{Self}`, or use a boxed error, `anyhow::Error` or `String`",
    note = "in a generic function, add the bound `std::error::Error`"
)]
pub trait AnyError<Kind>: Sized {
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "only this module calls it")]
    fn cause(&self) -> Cause<'_>;
}

/// The kind of error types.
#[allow(unnameable_types, reason = "it is inferred")]
#[derive(Debug)]
pub enum TypedError {}
/// The kind of boxed errors.
#[allow(unnameable_types, reason = "it is inferred")]
#[derive(Debug)]
pub enum BoxedError {}
/// The kind of texts and numbers.
#[allow(unnameable_types, reason = "it is inferred")]
#[derive(Debug)]
pub enum PlainError {}

#[allow(private_interfaces, reason = "only this module calls it")]
impl<E: Error + 'static> AnyError<TypedError> for E {
    fn cause(&self) -> Cause<'_> {
        Cause::Source(self)
    }
}

/// Not `Deref`: an `Arc` of an error would have two kinds.
#[allow(private_interfaces, private_bounds, reason = "only this module calls it")]
impl<E: DerefMut<Target: AsError>> AnyError<BoxedError> for E {
    fn cause(&self) -> Cause<'_> {
        Cause::Source((**self).as_error())
    }
}

/// The unsized errors to which boxed errors dereference.
trait AsError {
    fn as_error(&self) -> &(dyn Error + 'static);
}

impl AsError for dyn Error + Send + Sync {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl AsError for dyn Error + Send {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

macro_rules! plain {
    ($($text:ty),*) => { $(
        #[allow(private_interfaces, reason = "only this module calls it")]
        #[diagnostic::do_not_recommend]
        impl AnyError<PlainError> for $text {
            fn cause(&self) -> Cause<'_> {
                Cause::Text(self)
            }
        }
    )* };
}

plain!(String, &'static str, Cow<'static, str>, Box<str>, std::sync::Arc<str>, bool, char);
plain!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64);

#[allow(private_interfaces, reason = "only this module calls it")]
#[diagnostic::do_not_recommend]
impl AnyError<PlainError> for () {
    fn cause(&self) -> Cause<'_> {
        Cause::Opaque
    }
}
