//! Factories: closures whose argument types are the edges of the graph.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use super::inject::{Args, Edge, Need, sealed};
use super::{Inject, Value};

/// An async closure or function that makes a component from others.
///
/// Implemented for every `FnOnce` of up to 12 arguments, each of which can be [injected](Inject), that returns a
/// future which is `Send`. The types of a closure's arguments have to be written out: they are the edges.
#[diagnostic::on_unimplemented(
    message = "this is not a factory that the container can call",
    label = "not a factory",
    note = "a factory is `|a: Arc<A>, b: Arc<dyn B>| async move {{ .. }}`: its argument types are written out, and each \
            is `Arc<T>`, `Arc<dyn Trait>`, `Named<Tag, T>`, an `Option` of these, `Scope` or `CancelToken`",
    note = "it returns a future, which has to be `Send`: nothing like `Rc` or a lock guard may live across an `.await`",
    note = "`T` has to be `Send + Sync + 'static`; at most 12 arguments"
)]
pub trait Factory<Arguments>: Send + 'static {
    /// What the future gives.
    type Output;
    /// The future.
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

            #[allow(unused_variables, reason = "without arguments nothing is taken")]
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

/// A factory of which only the graph knows what it makes.
pub(crate) enum Maker {
    /// `None` once called.
    Once(Mutex<Option<CalledOnce>>),
    Each(Box<dyn Fn(Args) -> Making + Send + Sync>),
    /// What a scope is opened with.
    Input,
}

impl Maker {
    /// Calls the factory; `None` for one that can be called once and was.
    pub(crate) fn call(&self, args: Args) -> Option<Making> {
        match self {
            Self::Once(factory) => {
                let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
                factory.map(|factory| factory(args))
            }
            Self::Each(factory) => Some(factory(args)),
            Self::Input => None,
        }
    }

    pub(crate) fn once<T, E, A, F>(factory: F, result: fn(F::Output) -> Result<T, E>) -> Self
    where
        F: Factory<A>,
        F::Output: 'static,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        Self::Once(Mutex::new(Some(Box::new(move |args| make(factory, args, result)))))
    }

    pub(crate) fn each<T, E, A, F>(factory: F, result: fn(F::Output) -> Result<T, E>) -> Self
    where
        F: Factory<A> + Clone + Sync,
        F::Output: 'static,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        A: 'static,
    {
        Self::Each(Box::new(move |args| make(factory.clone(), args, result)))
    }

    /// What is there already.
    pub(crate) fn ready(value: Value) -> Self {
        Self::Once(Mutex::new(Some(Box::new(move |_| Box::pin(async move { Ok(value) })))))
    }
}

fn make<T, E, A, F>(factory: F, mut args: Args, result: fn(F::Output) -> Result<T, E>) -> Making
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

/// What the arguments of a factory need.
pub(crate) fn needs<A, F: Factory<A>>() -> Vec<Need> {
    F::edges().into_iter().map(|Edge(need)| need).collect()
}
