//! What an answer is to policies, and what becomes of a call that they ended.

use std::convert::Infallible;

use super::PolicyError;
use crate::resilience::Error;

/// Takes answers apart into values and errors, and makes the answer to a call that a policy ended.
///
/// [`IntoError`] does for every `Result` whose error can be made of a [`PolicyError`]: `Box<dyn Error + Send + Sync>`,
/// and an `enum` with a variant for it. [`Policies::or_error`](super::Policies::or_error) and
/// [`or_answer`](super::Policies::or_answer) are for all others.
#[diagnostic::on_unimplemented(
    message = "a policy that ends a call cannot make the answer `{R}`",
    label = "no way from a `PolicyError` to `{R}`",
    note = "for `Result<T, E>`: `impl From<PolicyError> for E` (with thiserror: a variant `Policy(#[from] PolicyError)`), \
            or `.or_error(|error: PolicyError| ..)` on this part",
    note = "for an answer that is no `Result`: `.or_answer(|error: PolicyError| ..)` on this part"
)]
pub trait Settle<R>: Send + Sync + 'static {
    /// The value in an answer.
    type Ok: Send + 'static;
    /// The error in an answer.
    type Err: Send + 'static;
    /// Takes an answer apart.
    #[doc(hidden)]
    fn split(answer: R) -> Result<Self::Ok, Self::Err>;
    /// Makes an answer of a value.
    #[doc(hidden)]
    fn value(value: Self::Ok) -> R;
    /// Makes an answer of an error that was answered inside.
    #[doc(hidden)]
    fn error(error: Self::Err) -> R;
    /// Makes the answer to a call that a policy ended.
    #[doc(hidden)]
    fn ended(&self, error: PolicyError) -> R;
}

pub(super) fn settle<R, S: Settle<R>>(by: &S, outcome: Result<S::Ok, Error<S::Err>>) -> R {
    match outcome.map_err(Error::into_answer) {
        Ok(value) => S::value(value),
        Err(Ok(error)) => S::error(error),
        Err(Err(error)) => by.ended(PolicyError(error)),
    }
}

/// Makes an error of a [`PolicyError`], as `From` says.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntoError;

/// Makes an error of a [`PolicyError`], as a closure says.
#[derive(Clone)]
pub struct OrError<F>(pub(super) F);

/// Makes an answer of a [`PolicyError`], as a closure says.
#[derive(Clone)]
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

impl<T, E> Settle<Result<T, E>> for IntoError
where
    T: Send + 'static,
    E: From<PolicyError> + Send + 'static,
{
    as_a_result!();

    fn ended(&self, error: PolicyError) -> Result<T, E> {
        Err(error.into())
    }
}

impl<T, E, F> Settle<Result<T, E>> for OrError<F>
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

impl<R, F> Settle<R> for OrAnswer<F>
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
