//! Containers: the graph of components, checked, started and stopped.

mod check;
mod compile_fail;
mod health;
mod injected;
mod life;
mod rollback;
mod scoped;

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use motet::container::{Container, Running};
use motet::task::{Nursery, ScopeError, scope};
use tokio::time::sleep;

use crate::notes::Log;

/// Components whose dependencies are set by each test.
#[derive(Debug)]
struct A;
#[derive(Debug)]
struct B;
#[derive(Debug)]
struct C;
#[derive(Debug)]
struct D;

#[derive(Debug, PartialEq, Eq)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

impl Log {
    /// Returns a hook that notes the name of its component.
    fn hook<T: ?Sized>(&self, what: &'static str) -> impl Fn(Arc<T>) -> std::future::Ready<()> + use<T> {
        let log = self.clone();
        move |_| {
            log.note(what);
            std::future::ready(())
        }
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn after<T>(time: u64, value: T) -> T {
    sleep(millis(time)).await;
    value
}

/// Runs `body` in a scope of its own.
async fn within<T>(body: impl AsyncFnOnce(&Nursery<Refused>) -> T) -> Result<T, ScopeError<Refused>> {
    scope(async |n: &Nursery<Refused>| Ok(body(n).await)).await
}

async fn started(n: &Nursery<Refused>, c: Container) -> Running {
    c.start(n).await.unwrap_or_else(|failed| panic!("{failed}: {:?}", failed))
}

async fn never<T>() -> T {
    pending().await
}
