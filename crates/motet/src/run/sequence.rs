//! The shutdown itself: no signals, no process, no clock but tokio's.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::time::{Instant, timeout_at};

use super::app::{App, CLEANUP, WORK};
use super::outcome::{Finished, Work, finished, not_started};
use super::phase::Open;
use super::reload::Reloads;
use super::root::Root;
use super::shared::Shared;
use crate::observe;
use crate::sync::Class;
use crate::task::caught::Caught;
use crate::task::cause::{FindCause, opaque};
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::coop::{Cooperative, cooperative};
use crate::task::core::Core;
use crate::task::end::finish;
use crate::task::options;
use crate::task::timeout::poll_limit;
use crate::task::{CancelToken, Name, Nursery, Policy, Reason, ReasonKind, Scope, Task, drain};

pub(super) async fn run<T, E, F, S>(
    mut app: App,
    site: &'static Location<'static>,
    begin: CancelToken,
    reloads: Reloads,
    stop: S,
    find_cause: FindCause<E>,
    body: F,
) -> Finished<T, E>
where
    F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
    E: Send + 'static,
    S: Future<Output = Reason>,
{
    if let Some(phase) = app.declared_twice.take() {
        return not_started(&app.name, phase);
    }
    let shared = Arc::new(Shared::<E>::new(begin));
    let scope = OnceLock::new();
    let mut ended = None;
    let options = Scope::builder()
        .name(app.name.clone())
        .policy(Policy::Isolate)
        .keep_ages()
        .shielded()
        .at(site)
        .blocking_limit(app.blocking_limit);
    let left_behind = {
        let whole = options.run(async |nursery: &Nursery<Infallible>| {
            let _ = scope.set(Scope::clone(nursery));
            ended = Some(Sequence::new(&app, nursery, &shared, site).run(reloads, stop, body).await);
            Ok(())
        });
        let mut whole = pin!(async {
            if let Err(error) = whole.await {
                // Whatever can fail in here is noted; this scope itself holds nothing.
                crate::log::error!(
                    error = &error as &dyn std::error::Error,
                    "the scope of the program failed"
                );
            }
            drain().await
        });
        tokio::select! {
            biased;
            _ = &mut whole => {
                shared.leave(Vec::new());
                None
            }
            // Whatever the program does: it may use up the budget at each poll.
            () = unconstrained(shared.out_of_time(app.total)) => {
                // Before everything is dropped.
                let tree = observe::snapshot();
                if let Some(scope) = scope.get() {
                    shared.leave(left(scope));
                    below(&scope.0).iter().for_each(|below| shared.collect(below));
                }
                tree
            }
        }
    };
    let began = shared.begin(Reason::of(ReasonKind::Ended)).clone();
    let finished = finished(&app.name, &began, left_behind, ended, &shared, find_cause);
    if let Some(callback) = app.on_report.take() {
        callback.into_inner().unwrap_or_else(PoisonError::into_inner)(&finished.report);
    }
    finished
}

/// The names of the tasks that are left when the program gives up.
fn left(scope: &Scope) -> Vec<Name> {
    let mut names = scope.0.names(Class::Work);
    names.extend(below(&scope.0).iter().flat_map(|below| stuck(below)));
    names
}

/// The names of the tasks of a scope and its nested scopes that were cancelled and have not ended.
///
/// Services are cancelled last: they are named only when no other task is left.
fn stuck(core: &Core) -> Vec<Name> {
    let class = if core.gate.count(Class::Work) > 0 { Class::Work } else { Class::Service };
    let (mut names, more) = core.named(class);
    if more > 0 {
        names.push(Name::from(format!("({more} more)")));
    }
    for below in below(core) {
        names.extend(stuck(&below));
    }
    names
}

/// The scopes opened in this scope. They are returned without the lock of this scope: dropping the last handle of one may
/// take it.
fn below(core: &Core) -> Vec<Arc<Core>> {
    let state = core.state();
    state.scopes.iter().filter_map(|(_, scope)| scope.upgrade()).collect()
}

/// How long the cooperative children of a phase run on after its time.
const AFTER_PHASE: Duration = Duration::from_millis(10);

struct Sequence<'a, E> {
    app: &'a App,
    shared: &'a Arc<Shared<E>>,
    site: &'static Location<'static>,
    phases: Arc<[Open]>,
    /// For each phase a task that ends with the phase, and the token that ends it.
    ends: Vec<(Task<()>, CancelToken)>,
}

impl<'a, E: Send + 'static> Sequence<'a, E> {
    fn new(
        app: &'a App,
        nursery: &Nursery<Infallible>,
        shared: &'a Arc<Shared<E>>,
        site: &'static Location<'static>,
    ) -> Self {
        let mut phases = Vec::new();
        let mut ends = Vec::new();
        for (name, limit) in &app.phases {
            // Longer than the phase, which then reports the tasks that it cuts off.
            let grace = limit.saturating_add(AFTER_PHASE);
            let opened = Scope::builder().name(name.clone()).grace(grace).shielded().open(site);
            let scope = Scope(Arc::clone(opened.core()));
            phases.push(Open { name: name.clone(), limit: *limit, scope, cut: CancelToken::new() });
            let go = CancelToken::new();
            let ends_phase = end(opened, go.clone(), Arc::clone(shared));
            let spec = Spec::new(name.clone(), site, Class::Work, Stop::Drop).hidden();
            if let Ok(join) = launch::<_, Plain>(&nursery.0, spec, ends_phase) {
                ends.push((Task::new(join, name.clone(), None, &nursery.0), go));
            }
        }
        Self { app, shared, site, phases: phases.into(), ends }
    }

    async fn run<T, F, S>(self, reloads: Reloads, stop: S, body: F) -> Work<T, E>
    where
        F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
        S: Future<Output = Reason>,
    {
        let (scope, shared, site, grace) = (OnceLock::new(), self.shared, self.site, self.app.grace);
        let phases = Arc::clone(&self.phases);
        // Not the output of the scope, which a failed release would take the place of.
        let returned = Mutex::new(None);
        let body_ended = AtomicBool::new(false);
        let work = Scope::builder().name(WORK).grace(self.app.grace).at(self.site);
        let work = work.run_finding(opaque, async |nursery: &Nursery<E>| {
            let _ = scope.set(Scope::clone(nursery));
            // A service is cancelled when the body and all children have ended: the time of the shutdown counts from
            // then on. It is a task of its own, so that the time counts even if the body blocks its thread.
            let (begin, ending) = (Arc::clone(shared), Scope::clone(nursery));
            let (name, token) = (Name::from("end of work"), CancelToken::new());
            let spec = Spec::cooperative(name.clone(), site, Class::Service, token.clone()).hidden();
            let work_ended = token.clone();
            let end_of_work = async move {
                let cancelled = ending.token();
                let reason = tokio::select! {
                    biased;
                    reason = cancelled.cancelled() => reason,
                    reason = work_ended.cancelled() => reason,
                };
                // The token's reason is only that the work has ended. The scope knows whether an error or a panic ended
                // it, and this task may run, on another thread, before the waiter of the scope reports it.
                begin.begin(ending.reason().unwrap_or_else(|| reason.clone()));
            };
            let end_of_work = cooperative(name, token, grace, end_of_work);
            drop(launch::<_, Cooperative>(&nursery.0, spec, end_of_work));
            let root = Root::new(Nursery::new(Arc::clone(&nursery.0)), phases, Arc::clone(shared), reloads);
            let value = body(&root).await;
            body_ended.store(true, Ordering::Relaxed);
            *returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(value?);
            Ok(())
        });
        let mut work = pin!(Caught::new(async {
            let ended = work.await;
            (returned.lock().unwrap_or_else(PoisonError::into_inner).take(), ended)
        }));
        let mut ended = match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => None,
        };
        let scope = scope.get().expect("its first poll opens a scope");
        let reason = if ended.is_some() {
            shared.begin(Reason::of(ReasonKind::Ended))
        } else {
            let token = scope.token();
            tokio::select! {
                biased;
                out = &mut work => {
                    ended = Some(out);
                    shared.begin(Reason::of(ReasonKind::Ended))
                }
                // The work may use up the budget at each poll.
                reason = unconstrained(shared.begun()) => reason,
                reason = unconstrained(token.cancelled()) => shared.begin(reason.clone()),
                reason = unconstrained(stop) => shared.begin(reason),
            }
        };
        crate::log::info!(app = %self.app.name, %reason, "the program shuts down");
        // An error or a panic has cancelled the scope already.
        let ends_itself = self.app.body_ends_itself && !scope.is_cancelled();
        if !ends_itself {
            scope.cancel(reason.clone());
        }
        let late = || {
            let body = (ends_itself && !body_ended.load(Ordering::Relaxed)).then(|| Name::from("body"));
            body.into_iter().chain(stuck(&scope.0)).collect()
        };
        self.shut_down(reason, scope, late, work, ended).await
    }

    async fn shut_down<T>(
        self,
        reason: &Reason,
        scope: &Scope,
        late: impl Fn() -> Vec<Name>,
        mut work: Pin<&mut impl Future<Output = Work<T, E>>>,
        mut ended: Option<Work<T, E>>,
    ) -> Work<T, E> {
        let shared = self.shared;
        let last = shared.began().checked_add(self.app.total);
        let until = |limit: Duration| {
            let own = Instant::now().checked_add(limit);
            own.into_iter().chain(last).min()
        };
        shared.enter(Name::from(WORK));
        if ended.is_none() {
            ended = within(until(self.app.work), work.as_mut()).await;
        }
        shared.leave(if ended.is_none() { late() } else { Vec::new() });
        // A body that was to end by itself had its time.
        scope.cancel(reason.clone());
        for (phase, (end, go)) in self.phases.iter().zip(self.ends) {
            shared.enter(phase.name.clone());
            phase.scope.cancel(reason.clone());
            go.cancel(reason.clone());
            // The root scope, if it is stuck, goes on with its own end beside the phases.
            let both = beside(within(until(phase.limit), end), work.as_mut(), &mut ended);
            if both.await.is_some() {
                shared.leave(Vec::new());
                continue;
            }
            shared.leave(stuck(&phase.scope.0));
            phase.cut.cancel(reason.clone());
        }
        shared.enter(Name::from(CLEANUP));
        match ended {
            Some(ended) => ended,
            None => work.await,
        }
    }
}

/// Ends a phase when it is its turn; a panic in its scope begins the shutdown before that.
async fn end<E: Send + 'static>(opened: options::Open, go: CancelToken, shared: Arc<Shared<E>>) {
    let token = opened.core().token().clone();
    shared.begin(token.cancelled().await.clone());
    go.cancelled().await;
    finish(opened.core()).await;
    shared.collect(&opened.closed());
}

/// Waits for the future until `moment`. Returns `None` if the moment comes first.
async fn within<F: Future>(moment: Option<Instant>, future: F) -> Option<F::Output> {
    match moment {
        Some(at) => timeout_at(at, future).await.ok(),
        None => Some(future.await),
    }
}

/// Polls the work, while it has not ended, beside a step.
async fn beside<W: Future, S: Future>(
    step: S,
    mut work: Pin<&mut W>,
    ended: &mut Option<W::Output>,
) -> S::Output {
    let mut step = pin!(step);
    poll_fn(|cx| {
        let had_budget = has_budget_remaining();
        if ended.is_none()
            && let Poll::Ready(out) = work.as_mut().poll(cx)
        {
            *ended = Some(out);
        }
        poll_limit(step.as_mut(), had_budget, cx)
    })
    .await
}
