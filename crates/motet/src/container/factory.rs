//! Factories: closures whose argument types are the edges of the graph.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use super::inject::{Args, Edge, Inject, Need, sealed};
use super::key::Value;

/// An async closure or function that creates a component from its dependencies.
///
/// Implemented for every `FnOnce` with up to 12 arguments that can be [injected](Inject), and whose future is `Send`.
/// The argument types of a closure have to be written out: they are the edges of the graph.
#[allow(unnameable_types, reason = "a bound that users do not write")]
#[diagnostic::on_unimplemented(
    message = "this value is not a factory that the container can call",
    label = "not a factory",
    note = "a factory is `|a: Arc<A>, b: Arc<dyn B>| async move {{ .. }}`: its argument types are written out, and each \
            is `Arc<T>`, `Arc<dyn Trait>`, `Named<Tag, T>`, an `Option` of these, `Scope` or `CancelToken`",
    note = "it returns a future, which has to be `Send`: no `Rc` or lock guard may be held across an `.await`",
    note = "`T` has to be `Send + Sync + 'static`; at most 12 arguments"
)]
pub trait Factory<Arguments>: Send + 'static {
    /// The output of the future.
    type Output;
    /// The future that the factory returns.
    type Future: Future<Output = Self::Output> + Send + 'static;

    #[doc(hidden)]
    fn edges() -> Vec<Edge>;

    #[doc(hidden)]
    fn call(self, args: &mut Args) -> Self::Future;
}

macro_rules! factory {
    ($($arg:ident),*) => {
        impl<Func, Fut, $($arg: Inject),*> Factory<($($arg,)*)> for Func
        where
            Func: FnOnce($($arg),*) -> Fut + Send + 'static,
            Fut: Future + Send + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;

            fn edges() -> Vec<Edge> {
                vec![$(<$arg as sealed::Inject>::edge()),*]
            }

            #[allow(unused_variables, reason = "unused by a factory without arguments")]
            fn call(self, args: &mut Args) -> Fut {
                self($(<$arg as sealed::Inject>::take(args)),*)
            }
        }
    };
}

factory!();
factory!(A1);
factory!(A1, A2);
factory!(A1, A2, A3);
factory!(A1, A2, A3, A4);
factory!(A1, A2, A3, A4, A5);
factory!(A1, A2, A3, A4, A5, A6);
factory!(A1, A2, A3, A4, A5, A6, A7);
factory!(A1, A2, A3, A4, A5, A6, A7, A8);
factory!(A1, A2, A3, A4, A5, A6, A7, A8, A9);
factory!(A1, A2, A3, A4, A5, A6, A7, A8, A9, A10);
factory!(A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11);
factory!(A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12);

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Making = Pin<Box<dyn Future<Output = Result<Value, BoxError>> + Send>>;

type CalledOnce = Box<dyn FnOnce(Args) -> Making + Send>;

/// How often a plan is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    /// By its container, which cannot be started again: an existing value is dropped when it is stopped.
    Once,
    Many,
}

/// A factory without its types; the graph knows the type of its component.
pub(crate) enum Maker {
    /// `None` once the factory was called.
    Once(Mutex<Option<CalledOnce>>),
    Each(Box<dyn Fn(Args) -> Making + Send + Sync>),
    /// An existing value. `None` once the only start of the plan has taken it.
    Value(Mutex<Option<Value>>),
    /// An input, which has no factory.
    Input,
}

impl Maker {
    /// Calls the factory. Returns `None` if it can be called only once and was called before. `starts` states whether the plan
    /// can be started again: then it keeps its values.
    pub(crate) fn call(&self, args: Args, starts: Starts) -> Option<Making> {
        match self {
            Self::Once(factory) => {
                let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
                factory.map(|factory| factory(args))
            }
            Self::Each(factory) => Some(factory(args)),
            Self::Value(value) => {
                let mut value = value.lock().unwrap_or_else(PoisonError::into_inner);
                let value = match starts {
                    Starts::Once => value.take()?,
                    Starts::Many => value.clone()?,
                };
                Some(Box::pin(async move { Ok(value) }))
            }
            Self::Input => None,
        }
    }

    /// `result` is generic, so that it takes no memory: with a factory that captures nothing, nothing is allocated.
    pub(crate) fn once<T, E, A, F>(
        factory: F,
        result: impl FnOnce(F::Output) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        F: Factory<A>,
        F::Output: 'static,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        Self::Once(Mutex::new(Some(Box::new(move |args| make(factory, args, result)))))
    }

    pub(crate) fn each<T, E, A, F>(
        factory: F,
        result: impl FnOnce(F::Output) -> Result<T, E> + Copy + Send + Sync + 'static,
    ) -> Self
    where
        F: Factory<A> + Clone + Sync,
        F::Output: 'static,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        Self::Each(Box::new(move |args| make(factory.clone(), args, result)))
    }

    /// Returns an existing value.
    pub(crate) fn ready(value: Value) -> Self {
        Self::Value(Mutex::new(Some(value)))
    }
}

fn make<T, E, A, F>(
    factory: F,
    mut args: Args,
    result: impl FnOnce(F::Output) -> Result<T, E> + Send + 'static,
) -> Making
where
    F: Factory<A>,
    F::Output: 'static,
    T: Send + Sync + 'static,
    E: Into<BoxError> + 'static,
    A: 'static,
{
    let making = factory.call(&mut args);
    Box::pin(async move { result(making.await).map(|made| Value::new(Arc::new(made))).map_err(Into::into) })
}

/// The dependencies of a factory.
pub(crate) fn needs<A, F: Factory<A>>() -> Vec<Need> {
    F::edges().into_iter().map(|Edge(need)| need).collect()
}
