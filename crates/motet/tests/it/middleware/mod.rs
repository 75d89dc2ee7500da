//! Parts around handlers.

mod adapting;
mod building;
mod calling;
mod compile_fail;
mod context;
mod depth;
mod policies;
mod watching;

use std::sync::{Arc, Mutex};

use motet::middleware::{BoxFuture, Middleware, Next};
use motet::task::Name;

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Notes its end, however that comes.
struct Held(Log, String);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.note(format!("{} dropped", self.1));
    }
}

/// A part that notes when it begins and when it ends.
#[derive(Clone)]
struct Noting(&'static str, Log);

impl<Q: Send + 'static, R: Send + 'static> Middleware<Q, R> for Noting {
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move {
            let Self(name, log) = &*self;
            log.note(format!("{name} begins"));
            let _held = Held(log.clone(), (*name).to_owned());
            let answer = next.run(request).await;
            log.note(format!("{name} ends"));
            answer
        })
    }

    fn name(&self) -> Name {
        self.0.into()
    }
}

/// A part for whatever passes.
async fn pass<Q: Send + 'static, R: Send + 'static>(request: Q, next: Next<Q, R>) -> R {
    next.run(request).await
}
