use std::fmt;
use std::sync::Arc;

use super::description::PartDescription;
use super::endpoint::{Adapter, Endpoint, WithContext};
use super::handler::BuiltChain;
use super::part::Part;
use super::{ChainDescription, Context, Handler, Middleware, Next, UnknownPartError};

/// A list of parts around a handler, in the order in which they are added: the first part is outermost, sees the
/// request first and the answer last.
///
/// `Q` and `R` are the request and the answer of the part that is added next; `CallQ` and `CallR` are those of the
/// whole chain, which differ only after [`adapt`](Self::adapt). Any types are allowed; most answers are a `Result`.
///
/// A chain is `Clone`, so that several handlers can have the same parts around them.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Next};
///
/// async fn exclaim(request: String, next: Next<String, String>) -> String {
///     next.run(request).await + "!"
/// }
/// async fn greet(name: String) -> String { format!("hello, {name}") }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = Chain::new().with(exclaim).to(greet);
/// assert_eq!(handler.call("alice".to_owned()).await, "hello, alice!");
/// # Ok(())
/// # }
/// ```
#[must_use = "a chain does nothing until it ends in a handler: call `to`"]
pub struct Chain<Q: 'static, R: 'static, CallQ: 'static = Q, CallR: 'static = R> {
    parts: Vec<Part<Q, R>>,
    /// The parts of the outer chains, which are over other types.
    outside: ChainDescription,
    /// Puts the outer chains around a handler.
    enclose: Arc<Enclose<Q, R, CallQ, CallR>>,
}

type Enclose<Q, R, CallQ, CallR> = dyn Fn(Handler<Q, R>) -> Handler<CallQ, CallR> + Send + Sync;

impl<Q: 'static, R: 'static> Chain<Q, R> {
    /// Creates a chain without parts.
    pub fn new() -> Self {
        Self { parts: Vec::new(), outside: ChainDescription::default(), enclose: Arc::new(|handler| handler) }
    }
}

impl<Q: 'static, R: 'static, CallQ: 'static, CallR: 'static> Chain<Q, R, CallQ, CallR> {
    /// Adds a part, inside of the parts that were added before.
    pub fn with(mut self, part: impl Middleware<Q, R>) -> Self {
        self.parts.push(part.into_part());
        self
    }

    /// Adds a part if there is one, for example if a setting enables it: `with_option(enabled.then(|| log))`.
    pub fn with_option(self, part: Option<impl Middleware<Q, R>>) -> Self {
        match part {
            Some(part) => self.with(part),
            None => self,
        }
    }

    /// Adds a part around the part with the name `name`. If several parts have this name, the outermost is used.
    ///
    /// # Errors
    /// [`UnknownPartError`] if the chain has no such part. Parts outside of an [`adapt`](Self::adapt) have other types,
    /// and are not searched.
    ///
    /// # Examples
    /// ```
    /// use motet::middleware::{Chain, Next, named};
    ///
    /// async fn log(request: u32, next: Next<u32, u32>) -> u32 { next.run(request).await }
    /// async fn answer(request: u32) -> u32 { request }
    ///
    /// let chain = Chain::new().with(log).insert_before("log", named("outer", log)).unwrap();
    /// assert_eq!(chain.clone().to(answer).describe().to_string(), "outer > log > answer");
    /// let error = chain.insert_before("retry", log).unwrap_err();
    /// assert_eq!(error.to_string(), "the chain has no part `retry`; it has `outer`, `log`");
    /// ```
    pub fn insert_before(
        mut self,
        name: &str,
        part: impl Middleware<Q, R>,
    ) -> Result<Self, UnknownPartError> {
        let at = self.position(name)?;
        self.parts.insert(at, part.into_part());
        Ok(self)
    }

    /// Adds a part inside of the part with the name `name`. If several parts have this name, the outermost is used.
    ///
    /// # Errors
    /// As [`insert_before`](Self::insert_before).
    pub fn insert_after(mut self, name: &str, part: impl Middleware<Q, R>) -> Result<Self, UnknownPartError> {
        let at = self.position(name)?;
        self.parts.insert(at + 1, part.into_part());
        Ok(self)
    }

    fn position(&self, name: &str) -> Result<usize, UnknownPartError> {
        let position = self.parts.iter().position(|part| part.description.name == name);
        position.ok_or_else(|| UnknownPartError::new(name, self.parts.iter().map(|part| &part.description)))
    }

    /// Changes the types: all parts that are added after this call take requests of type `A` and return answers of type
    /// `B`.
    ///
    /// `adapt` is called like a part: it may answer by itself, await, and keep a part of the request for the answer. A
    /// value that the handler needs can be a field of `A`, so that it is always present.
    ///
    /// # Examples
    /// ```
    /// use motet::middleware::{Chain, Next};
    ///
    /// struct Request { token: &'static str, body: String }
    /// struct Known { user: String, body: String }
    /// type Answer = Result<String, &'static str>;
    ///
    /// async fn log(request: Request, next: Next<Request, Answer>) -> Answer { next.run(request).await }
    /// async fn authenticate(request: Request, next: Next<Known, String>) -> Answer {
    ///     let user = request.token.strip_prefix("token of ").ok_or("unauthorized")?.to_owned();
    ///     Ok(next.run(Known { user, body: request.body }).await)
    /// }
    /// async fn shout(mut request: Known, next: Next<Known, String>) -> String {
    ///     request.body.make_ascii_uppercase();
    ///     next.run(request).await
    /// }
    /// async fn post(request: Known) -> String { format!("{}: {}", request.user, request.body) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = Chain::new().with(log).adapt(authenticate).with(shout).to(post);
    /// assert_eq!(handler.describe().to_string(), "log > authenticate > shout > post");
    /// let answer = handler.call(Request { token: "token of alice", body: "hello".to_owned() });
    /// assert_eq!(answer.await, Ok("alice: HELLO".to_owned()));
    /// assert_eq!(handler.call(Request { token: "", body: String::new() }).await, Err("unauthorized"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn adapt<A, B, F, Fut>(self, adapt: F) -> Chain<A, B, CallQ, CallR>
    where
        A: 'static,
        B: 'static,
        F: Fn(Q, Next<A, B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        let mut outside = self.describe();
        outside.push(PartDescription::of::<F>());
        let (adapt, around) = (Arc::new(adapt), self);
        let enclose = move |inside| around.clone().to(Adapter { adapt: Arc::clone(&adapt), inside });
        Chain { parts: Vec::new(), outside, enclose: Arc::new(enclose) }
    }

    /// Ends the chain with a handler: an `async fn` from the request to the answer, or the [`Handler`] of another
    /// chain.
    #[must_use]
    pub fn to(self, handler: impl Endpoint<Q, R>) -> Handler<CallQ, CallR> {
        let Self { parts, enclose, .. } = self;
        enclose(Handler(Arc::new(BuiltChain::new(parts, handler))))
    }

    /// Ends the chain with a handler that reads values which parts have added to the context.
    #[must_use]
    pub fn to_with_context<F, Fut>(self, handler: F) -> Handler<CallQ, CallR>
    where
        F: Fn(Q, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        self.to(WithContext(handler))
    }

    /// The parts of the chain, outermost first.
    #[must_use]
    pub fn describe(&self) -> ChainDescription {
        let mut description = self.outside.clone();
        self.parts.iter().for_each(|part| description.push(part.description.clone()));
        description
    }
}

impl<Q: 'static, R: 'static> Default for Chain<Q, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: 'static, R: 'static, CallQ: 'static, CallR: 'static> Clone for Chain<Q, R, CallQ, CallR> {
    fn clone(&self) -> Self {
        let (parts, outside) = (self.parts.clone(), self.outside.clone());
        Self { parts, outside, enclose: Arc::clone(&self.enclose) }
    }
}

impl<Q: 'static, R: 'static, CallQ: 'static, CallR: 'static> fmt::Debug for Chain<Q, R, CallQ, CallR> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({})", self.describe())
    }
}
