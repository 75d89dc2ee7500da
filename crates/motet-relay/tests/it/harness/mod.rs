//! A relay process, a client of its API, and receivers.

mod client;
mod contract;
mod disk;
mod embedded;
mod feed;
mod receiver;
mod relay;

use std::future::Future;
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use self::client::{Answer, Client};
pub(crate) use self::contract::{DOCUMENTS, place, refusal_of};
pub(crate) use self::disk::SmallDisk;
pub(crate) use self::embedded::Embedded;
pub(crate) use self::feed::{End, Feed, Message};
pub(crate) use self::receiver::{Act, FAIL, Hit, OK, Receiver};
pub(crate) use self::relay::{Home, LOOPBACK, Relay, Stderr, program};

/// An upper bound of every wait, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the future. Fails the test if it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// Polls until there is a result; for state without a notification.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    within(what, async {
        loop {
            ticks.tick().await;
            if let Some(found) = ask().await {
                return found;
            }
        }
    })
    .await
}

/// Tests share the machine; the test that measures latency has it alone.
static MACHINE: RwLock<()> = RwLock::const_new(());

pub(crate) async fn share_the_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

pub(crate) async fn have_the_machine_alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}
