use std::convert::Infallible;

/// The answer of a chain as a tower service returns it: a `Result`, or an HTTP response, which is never an error, as in
/// axum.
pub trait Answer {
    /// The response of the service.
    type Response;
    /// The error of the service.
    type Error;

    /// Converts the result of a service into an answer.
    fn from_result(result: Result<Self::Response, Self::Error>) -> Self;

    /// Converts an answer into the result of a service.
    ///
    /// # Errors
    /// The error that the answer contains.
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
