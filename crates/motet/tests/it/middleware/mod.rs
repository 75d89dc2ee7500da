//! Middlewares around handlers.

mod adapting;
mod building;
mod calling;
mod compile_fail;
mod context;
mod depth;
mod policies;
mod watching;

use std::sync::Arc;

use motet::middleware::{BoxFuture, Middleware, Next};
use motet::task::Name;

use crate::notes::Log;

/// Returns a part that notes when it begins and when it ends.
#[derive(Clone)]
struct Noting(&'static str, Log);

impl<Q: Send + 'static, R: Send + 'static> Middleware<Q, R> for Noting {
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move {
            let Self(name, log) = &*self;
            log.note(format!("{name} begins"));
            let _held = log.at_drop(format!("{name} dropped"));
            let answer = next.run(request).await;
            log.note(format!("{name} ends"));
            answer
        })
    }

    fn name(&self) -> Name {
        self.0.into()
    }
}

/// A part for requests and answers of any type.
async fn pass<Q: Send + 'static, R: Send + 'static>(request: Q, next: Next<Q, R>) -> R {
    next.run(request).await
}
