//! Conversions between answers and the results that policies work with.

use std::convert::Infallible;

use super::PolicyError;
use crate::resilience::Error;

/// Splits answers into values and errors, and creates the answer to a call that a policy ended.
///
/// [`IntoError`] works for every `Result` whose error can be created from a [`PolicyError`], such as `Box<dyn Error +
/// Send + Sync>` and an `enum` with a variant for it. [`Policies::or_error`](super::Policies::or_error) and
/// [`or_answer`](super::Policies::or_answer) are for all other answers.
#[diagnostic::on_unimplemented(
    message = "a policy that ends a call cannot create the answer `{R}`",
    label = "no conversion from a `PolicyError` to `{R}`",
    note = "for `Result<T, E>`: `impl From<PolicyError> for E` (with thiserror: a variant `Policy(#[from] PolicyError)`), \
            or `.or_error(|error: PolicyError| ..)` on this part",
    note = "for an answer that is not a `Result`: `.or_answer(|error: PolicyError| ..)` on this part"
)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub trait Convert<R>: Send + Sync + 'static {
    /// The value of an answer.
    type Ok: Send + 'static;
    /// The error of an answer.
    type Err: Send + 'static;
    /// Splits an answer into a value or an error.
    #[doc(hidden)]
    fn split(answer: R) -> Result<Self::Ok, Self::Err>;
    /// Creates an answer from a value.
    #[doc(hidden)]
    fn value(value: Self::Ok) -> R;
    /// Creates an answer from an error of the inner parts.
    #[doc(hidden)]
    fn error(error: Self::Err) -> R;
    /// Creates the answer to a call that a policy ended.
    #[doc(hidden)]
    fn ended(&self, error: PolicyError) -> R;
}

pub(super) fn into_answer<R, S: Convert<R>>(convert: &S, outcome: Result<S::Ok, Error<S::Err>>) -> R {
    match outcome.map_err(Error::into_answer) {
        Ok(value) => S::value(value),
        Err(Ok(error)) => S::error(error),
        Err(Err(error)) => convert.ended(PolicyError(error)),
    }
}

/// Creates an error from a [`PolicyError`] with `From`.
#[derive(Debug, Clone, Copy, Default)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct IntoError;

/// Creates an error from a [`PolicyError`] with a closure.
#[derive(Clone)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct OrError<F>(pub(super) F);

/// Creates an answer from a [`PolicyError`] with a closure.
#[derive(Clone)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct OrAnswer<F>(pub(super) F);

macro_rules! as_a_result {
    () => {
        type Ok = T;
        type Err = E;

        #[inline]
        fn split(answer: Result<T, E>) -> Result<T, E> {
            answer
        }

        #[inline]
        fn value(value: T) -> Result<T, E> {
            Ok(value)
        }

        fn error(error: E) -> Result<T, E> {
            Err(error)
        }
    };
}

impl<T, E> Convert<Result<T, E>> for IntoError
where
    T: Send + 'static,
    E: From<PolicyError> + Send + 'static,
{
    as_a_result!();

    fn ended(&self, error: PolicyError) -> Result<T, E> {
        Err(error.into())
    }
}

impl<T, E, F> Convert<Result<T, E>> for OrError<F>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(PolicyError) -> E + Send + Sync + 'static,
{
    as_a_result!();

    fn ended(&self, error: PolicyError) -> Result<T, E> {
        Err((self.0)(error))
    }
}

impl<R, F> Convert<R> for OrAnswer<F>
where
    R: Send + 'static,
    F: Fn(PolicyError) -> R + Send + Sync + 'static,
{
    type Ok = R;
    type Err = Infallible;

    #[inline]
    fn split(answer: R) -> Result<R, Infallible> {
        Ok(answer)
    }

    #[inline]
    fn value(value: R) -> R {
        value
    }

    fn error(error: Infallible) -> R {
        match error {}
    }

    fn ended(&self, error: PolicyError) -> R {
        (self.0)(error)
    }
}

opaque!("OrError": <F> std::fmt::Debug for OrError<F>);
opaque!("OrAnswer": <F> std::fmt::Debug for OrAnswer<F>);
