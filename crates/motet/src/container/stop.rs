//! The stop of components: each once, in reverse order, even if one of them fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::build::Instance;
use super::dag::Unwind;
use super::graph::Node;
use super::stop_report::{StopCause, StopError};
use super::store::{BuiltComponent, Store, StoreLife};
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
        let (is_first, scoped, is_building) = {
            let mut state = self.state();
            let is_first = state.phase == StoreLife::Open;
            if is_first {
                state.phase = StoreLife::Closing;
            }
            (is_first, std::mem::take(&mut state.scoped), state.building > 0)
        };
        if !is_first {
            self.until(|state| (state.phase == StoreLife::Closed).then_some(())).await;
            return;
        }
        let _closed = Closed(self);
        if is_building {
            // Builds in progress clean up after themselves.
            self.cancel(Reason::requested("the container is stopped"));
        }
        // Components of open scopes use the components that are stopped here, so they are stopped first.
        let mut scoped = scoped;
        let has_waited = is_building || !scoped.is_empty();
        if mutant!("container.forget_scoped") {
            scoped.clear();
        }
        if !scoped.is_empty() {
            gather(scoped.iter().filter_map(std::sync::Weak::upgrade).map(|scoped| async move {
                // Boxed, since the call is recursive.
                Box::pin(scoped.close()).await;
            }))
            .await;
        }
        self.until(|state| (state.building == 0).then_some(())).await;
        let (built, slots, stopped) = {
            let mut state = self.state();
            let slots = std::mem::take(&mut state.slots);
            (std::mem::take(&mut state.built), slots, std::mem::take(&mut state.stopped))
        };
        // Outside of the lock. A component without other owners is dropped when it is stopped.
        drop(slots);
        let first = if has_waited { Instant::now() } else { begun };
        let (components, ended) = stop_all(self, built, stopped, first).await;
        let report = StopReport { components, took: ended.duration_since(begun), cut_off: false };
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
async fn stop_all(
    store: &Arc<Store>,
    built: Vec<BuiltComponent>,
    mut all: Vec<Stopped>,
    begun: Instant,
) -> (Vec<Stopped>, Instant) {
    all.reserve(built.len());
    let at_once = built.iter().all(|built| {
        let stops_at_once = |instance: &Instance| store.graph.nodes[instance.node].stops_at_once();
        built.instances().all(stops_at_once)
    });
    if at_once {
        let ended = stop_at_once(store, built, &mut all, begun);
        return (all, ended);
    }
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
    let (done, mut ended) = mpsc::unbounded_channel();
    while !unwind.is_done() {
        let (at, stopped) = match next.pop() {
            Some(at) => {
                let Some(BuiltComponent { node, transients, own }) = built[at].take() else { continue };
                let described = &store.graph.nodes[node];
                let stop = Arc::clone(store);
                let stopping =
                    Box::pin(async move { stop_instances(&stop, transients.into_iter().chain([own])).await });
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
    (all, Instant::now())
}

/// Stops components that do not have to be awaited: the last one to be ready comes first, so each comes after the components
/// that depend on it.
fn stop_at_once(
    store: &Store,
    built: Vec<BuiltComponent>,
    all: &mut Vec<Stopped>,
    mut begun: Instant,
) -> Instant {
    for BuiltComponent { transients, own, .. } in built.into_iter().rev() {
        for instance in transients.into_iter().chain([own]).rev() {
            let described = &store.graph.nodes[instance.node];
            let dropped = catch(|| drop(instance.value));
            let ended = Instant::now();
            let failures = dropped.err().into_iter().map(|panic| StopError(StopCause::DropPanicked(panic)));
            all.push(stopped(described, ended.duration_since(begun), failures.collect()));
            begun = ended;
        }
    }
    begun
}

/// Logs the failures of a stop.
fn stopped(described: &Node, took: Duration, failures: Vec<StopError>) -> Stopped {
    for failure in &failures {
        let error: &dyn std::error::Error = failure;
        crate::log::error!(component = %described.name, site = %described.site, error, source = error.source(), "a component failed to stop");
    }
    Stopped { name: described.name.clone(), site: described.site, took, failures }
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
pub(crate) async fn stop_instances<I>(store: &Arc<Store>, instances: I) -> Vec<Stopped>
where
    I: IntoIterator<Item = Instance, IntoIter: DoubleEndedIterator>,
{
    let mut all = Vec::new();
    for instance in instances.into_iter().rev() {
        let described = &store.graph.nodes[instance.node];
        let (was_built, begun) = (instance.value.is_some(), Instant::now());
        let failures = stop_one(described, instance).await;
        // A component that was never built is reported only if its cleanup failed.
        if was_built || !failures.is_empty() {
            all.push(stopped(described, begun.elapsed(), failures));
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
