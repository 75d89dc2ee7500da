use std::convert::Infallible;

/// What a chain answers, as a service of tower has it: a `Result`, or a response of HTTP that is no failure whatever it
/// says, as with axum.
pub trait Answer {
    /// What the service responds.
    type Response;
    /// How it fails.
    type Error;

    /// Makes an answer of what a service gave.
    fn from_result(result: Result<Self::Response, Self::Error>) -> Self;

    /// Makes what a service gives of an answer.
    ///
    /// # Errors
    /// The one that is the answer.
    fn into_result(self) -> Result<Self::Response, Self::Error>;
}

impl<T, E> Answer for Result<T, E> {
    type Response = T;
    type Error = E;

    fn from_result(result: Self) -> Self {
        result
    }

    fn into_result(self) -> Self {
        self
    }
}

impl<B> Answer for http::Response<B> {
    type Response = Self;
    type Error = Infallible;

    fn from_result(result: Result<Self, Infallible>) -> Self {
        let Ok(response) = result;
        response
    }

    fn into_result(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}
