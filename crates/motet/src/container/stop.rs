//! The stop of components: each once, in reverse order, even if one of them fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::build::Instance;
use super::dag::Unwind;
use super::graph::Node;
use super::stop_report::{StopCause, StopError};
use super::store::{BuiltComponent, ComponentSlot, Store, StoreLife};
use super::{StopReport, Stopped};
use crate::mutant;
use crate::resource::PendingRelease;
use crate::sync::{catch, panic_words};
use crate::task::caught::Caught;
use crate::task::core::Level;
use crate::task::end::{adopt, finish};
use crate::task::finalizer::{Event, ReleaseFuture};
use crate::task::options::Open;
use crate::task::{Reason, ReasonKind, gather, timeout};

impl Store {
    /// Stops everything once. Later callers wait for the end of that stop.
    pub(crate) async fn close(self: &Arc<Self>) {
        let begun = Instant::now();
        let is_first = {
            let mut state = self.state();
            let is_first = state.phase == StoreLife::Open;
            if is_first {
                state.phase = StoreLife::Closing;
            }
            is_first
        };
        if !is_first {
            self.until(|state| (state.phase == StoreLife::Closed).then_some(())).await;
            return;
        }
        let _closed = Closed(self);
        // Builds in progress clean up after themselves.
        self.cancel.cancel(Reason::requested("the container is stopped"));
        // Components of open scopes use the components that are stopped here, so they are stopped first.
        let mut scoped = std::mem::take(&mut self.state().scoped);
        if mutant!("container.forget_scoped") {
            scoped.clear();
        }
        gather(scoped.iter().filter_map(std::sync::Weak::upgrade).map(|scoped| async move {
            // Boxed, since the call is recursive.
            Box::pin(scoped.close()).await;
        }))
        .await;
        self.until(|state| (state.building == 0).then_some(())).await;
        let (built, slots, mut stopped) = {
            let mut state = self.state();
            let slots: Vec<ComponentSlot> = state.slots.iter_mut().map(std::mem::take).collect();
            (std::mem::take(&mut state.built), slots, std::mem::take(&mut state.stopped))
        };
        // Outside of the lock. A component without other owners is dropped when it is stopped.
        drop(slots);
        stopped.extend(stop_all(self, built).await);
        let report = StopReport { components: stopped, took: begun.elapsed(), cut_off: false };
        let mut state = self.state();
        state.report = Some(report);
        drop(state);
    }
}

/// Marks the store as closed when it is dropped, even if the stop itself is dropped with the runtime.
struct Closed<'a>(&'a Store);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.phase = StoreLife::Closed;
        let registration = state.registration.take();
        drop(state);
        drop(registration);
        self.0.changed.notify_waiters();
    }
}

/// Stops components concurrently, each when all components that depend on it are stopped.
async fn stop_all(store: &Arc<Store>, built: Vec<BuiltComponent>) -> Vec<Stopped> {
    let mut places = vec![None; store.graph.nodes.len()];
    built.iter().enumerate().for_each(|(at, built)| places[built.node] = Some(at));
    let needs = |built: &BuiltComponent| {
        let needed = &store.graph.beyond_transients[built.node];
        needed.iter().filter_map(|node| places[*node]).collect::<Vec<_>>()
    };
    let mut needs: Vec<Vec<usize>> = built.iter().map(needs).collect();
    if mutant!("container.stop_forward") {
        needs = super::dag::reversed(&needs);
    }
    let mut unwind = Unwind::new(needs);
    let mut built: Vec<Option<BuiltComponent>> = built.into_iter().map(Some).collect();
    let mut next = unwind.first();
    let mut all = Vec::with_capacity(built.len());
    let (done, mut ended) = mpsc::unbounded_channel();
    while !unwind.is_done() {
        let (at, stopped) = match next.pop() {
            Some(at) => {
                let Some(BuiltComponent { node, instances }) = built[at].take() else { continue };
                let described = &store.graph.nodes[node];
                let stop = Arc::clone(store);
                let stopping = Box::pin(async move { stop_instances(&stop, instances).await });
                match store.in_place.begin(&store.host, stopping) {
                    Ok(stopped) => (at, stopped),
                    Err(waits) => {
                        let stopping = StopDone { at, stopped: Vec::new(), done: done.clone() }.after(waits);
                        drop(adopt(&store.host, &described.name, described.site, stopping));
                        continue;
                    }
                }
            }
            None => {
                let Some(ended) = ended.recv().await else { break };
                ended
            }
        };
        if mutant!("container.skip_after_failure") {
            let failed = stopped.iter().any(|one| !one.failures.is_empty());
            if failed {
                all.extend(stopped);
                break;
            }
        }
        all.extend(stopped);
        next.extend(unwind.stopped(at));
    }
    all
}

/// Reports the end of a stop, even if its task is dropped.
struct StopDone {
    at: usize,
    stopped: Vec<Stopped>,
    done: mpsc::UnboundedSender<(usize, Vec<Stopped>)>,
}

impl StopDone {
    async fn after(mut self, stopping: impl Future<Output = Vec<Stopped>>) {
        self.stopped = stopping.await;
    }
}

impl Drop for StopDone {
    fn drop(&mut self) {
        // The receiver is gone if the whole stop was dropped.
        drop(self.done.send((self.at, std::mem::take(&mut self.stopped))));
    }
}

/// Stops a component and the transients that were built for it, the last one first.
pub(crate) async fn stop_instances(store: &Arc<Store>, instances: Vec<Instance>) -> Vec<Stopped> {
    let mut all = Vec::new();
    for instance in instances.into_iter().rev() {
        let described = &store.graph.nodes[instance.node];
        let (was_built, begun) = (instance.value.is_some(), Instant::now());
        let failures = stop_one(described, instance).await;
        for failure in &failures {
            let error: &dyn std::error::Error = failure;
            crate::log::error!(component = %described.name, site = %described.site, error, source = error.source(), "a component failed to stop");
        }
        // A component that was never built is reported only if its cleanup failed.
        if was_built || !failures.is_empty() {
            let (name, site) = (described.name.clone(), described.site);
            all.push(Stopped { name, site, took: begun.elapsed(), failures });
        }
    }
    all
}

/// Runs `on_stop`, then ends the tasks and cleanups of the component, then drops its value.
async fn stop_one(described: &Node, instance: Instance) -> Vec<StopError> {
    let Instance { open, value, .. } = instance;
    let limit = described.limits.stop;
    let mut failures = Vec::new();
    if let (Some(value), Some(on_stop)) = (&value, &described.on_stop) {
        let stopping = async {
            if mutant!("container.stop_twice") {
                on_stop(value.clone()).await?;
            }
            on_stop(value.clone()).await
        };
        // The timeout drops the future within the poll, where a panic of the drop is caught, too.
        match Caught::new(Box::pin(timeout(limit, stopping))).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => failures.push(StopCause::Returned(error)),
            Ok(Err(_)) => failures.push(StopCause::TimedOut(limit)),
            Err(payload) => failures.push(StopCause::Panicked(panic_words(payload))),
        }
    }
    if let Some(open) = open {
        end_scope(open, limit, &mut failures).await;
    }
    if let Err(panic) = catch(|| drop(value)) {
        failures.push(StopCause::DropPanicked(panic));
    }
    failures.into_iter().map(StopError).collect()
}

/// Ends the tasks and cleanups of a component.
async fn end_scope(open: Open, limit: Duration, failures: &mut Vec<StopCause>) {
    let core = Arc::clone(open.core());
    core.raise(Level::Work, &Reason::of(ReasonKind::Ended));
    // Longer than the limit of one cleanup, so that the scope itself gives up a cleanup that hangs.
    let limit = limit.saturating_mul(2);
    match timeout(limit, finish(&core)).await {
        Ok(()) => drop(open.closed()),
        Err(_) => {
            failures.push(StopCause::Left(limit));
            // The enclosing scope adopts the remaining tasks and cleanups.
            drop(open);
        }
    }
    let (panics, releases) = {
        let mut state = core.state();
        (std::mem::take(&mut state.panics), std::mem::take(&mut state.release_failures))
    };
    failures.extend(panics.into_iter().map(|panic| StopCause::TaskPanicked(panic_words(panic))));
    failures.extend(releases.into_iter().map(StopCause::Release));
}

/// The stop of a store, as the pending cleanup of its scope.
pub(crate) struct PendingStop(pub(crate) Option<Arc<Store>>);

impl PendingRelease for PendingStop {
    fn begin(mut self: Box<Self>, _: crate::resource::Exit) -> Option<ReleaseFuture> {
        let store = self.0.take()?;
        Some(Box::pin(async move {
            store.close().await;
            let state = store.state();
            state.report.as_ref().map_or(Ok(()), StopReport::to_result)
        }))
    }
}

impl Drop for PendingStop {
    fn drop(&mut self) {
        // A closed store has nothing left to stop.
        if let Some(store) = self.0.take()
            && store.state().phase != StoreLife::Closed
        {
            store.host.count_release(Event::Lost);
            // Closes the store: a component that is built from now on would never be stopped.
            drop(Closed(&store));
            let container = store.graph.name.as_ref().map_or("container", crate::task::Name::as_str);
            crate::log::error!(container, scope = %store.host.name, "a container was never stopped");
        }
    }
}
