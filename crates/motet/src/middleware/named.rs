use std::sync::Arc;

use super::part::Part;
use super::{BoxFuture, Middleware, Next};
use crate::task::Name;

/// Renames a part, for [`Chain::describe`](super::Chain::describe) and
/// [`Chain::insert_before`](super::Chain::insert_before).
pub fn named<M>(name: impl Into<Name>, part: M) -> Named<M> {
    Named { name: name.into(), part: Arc::new(part) }
}

/// The part that [`named`] returns.
#[derive(Debug, Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct Named<M> {
    name: Name,
    part: Arc<M>,
}

impl<Q: 'static, R: 'static, M: Middleware<Q, R>> Middleware<Q, R> for Named<M> {
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Arc::clone(&self.part).handle(request, next)
    }

    fn name(&self) -> Name {
        self.name.clone()
    }

    fn settings(&self) -> String {
        self.part.settings()
    }

    fn into_part(self) -> Part<Q, R> {
        let Self { name, part } = self;
        // Renaming must not add a layer, so the part is reused.
        let mut part = match Arc::try_unwrap(part) {
            Ok(part) => part.into_part(),
            Err(part) => Part::of(part),
        };
        part.description.name = name;
        part
    }
}
