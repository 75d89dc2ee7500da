/// The output of a handler: an answer for each item, in the order of the items, or one error for all of them.
///
/// Implemented for `Vec<Result<R, E>>` and for `Result<Vec<Result<R, E>>, E>`.
pub trait BatchOutcome: sealed::Sealed {
    /// The answer to an item.
    type Value;
    /// The error of an item.
    type Error;

    #[doc(hidden)]
    #[allow(clippy::type_complexity, reason = "a result of results")]
    fn into_answers(self) -> Result<Vec<Result<Self::Value, Self::Error>>, Self::Error>;
}

impl<R, E> BatchOutcome for Vec<Result<R, E>> {
    type Value = R;
    type Error = E;

    fn into_answers(self) -> Result<Self, E> {
        Ok(self)
    }
}

impl<R, E> BatchOutcome for Result<Vec<Result<R, E>>, E> {
    type Value = R;
    type Error = E;

    fn into_answers(self) -> Self {
        self
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "sealed: only this module implements it")]
    pub trait Sealed {}
    impl<R, E> Sealed for Vec<Result<R, E>> {}
    impl<R, E> Sealed for Result<Vec<Result<R, E>>, E> {}
}
