use std::error::Error;

/// The output of a release, or of a child of a supervisor: nothing, a `Result` without a value, or the never type.
///
/// The error may be anything that `?` converts to a boxed error: an error type, a boxed error, a string.
#[allow(unnameable_types, reason = "it bounds outputs, and is implemented for all that there are")]
pub trait IntoResult: sealed::Sealed {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl IntoResult for () {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> IntoResult for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.map_err(Into::into)
    }
}

/// Names the never type, which an `impl` cannot spell yet: the output of a future that loops without end.
trait Returns {
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

#[allow(private_interfaces, reason = "`Returns` stands for `!` here, and that is public")]
impl IntoResult for <fn() -> ! as Returns>::Output {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self
    }
}

mod sealed {
    use super::Returns;

    #[expect(unnameable_types, reason = "no other crate implements it")]
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
    #[allow(private_interfaces, reason = "`Returns` stands for `!` here, and that is public")]
    impl Sealed for <fn() -> ! as Returns>::Output {}
}
