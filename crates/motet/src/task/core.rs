//! The shared state of a scope: its children, its cancellation level, and its failures.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::blocking::BlockingPool;
use super::cause::{FindCause, opaque};
use super::finalizer::{Counters, Finalizer};
use super::list::{List, Listed};
use super::span::TaskSpan;
use super::{CancelToken, Name, Policy, Reason, ReasonKind, ReleaseError};
use crate::resource::Exit;
use crate::sync::{Class, Gate, Padded, WakeList, panic_message, quietly_drop};
use crate::{mutant, sim};

/// The cancellation level of a scope. Each level includes the levels before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Nothing is cancelled.
    Open,
    /// Children are cancelled; the body is not ([`Policy::FirstOk`]).
    Children,
    /// Children and the body are cancelled.
    Work,
    /// Services are cancelled as well.
    Services,
}

/// The number of names of unfinished tasks in a report.
const NAMES: usize = 32;

pub(crate) struct Core {
    /// No other scope of the process has this number.
    pub(crate) id: u64,
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) policy: Policy,
    pub(crate) grace: Duration,
    pub(crate) release_timeout: Duration,
    pub(crate) deadline: Option<Instant>,
    pub(crate) runtime: Handle,
    pub(crate) parent: Option<Arc<Self>>,
    /// When the scope was opened; `None` unless ages are kept, since each would cost a look at the clock.
    pub(crate) opened: Option<Instant>,
    /// The pool of the blocking closures of this scope and its nested scopes; `None` for the pool of the enclosing scope.
    pub(crate) blocking: Option<BlockingPool>,
    /// The span in which the scope was opened.
    pub(super) span: TaskSpan,
    /// Each child has a span of its own.
    pub(super) has_task_spans: bool,
    /// `true` if code that is not cancelled with the parent has opened it.
    pub(super) is_opened_shielded: bool,
    /// The [`FindCause`] of the errors of the children, for [`Policy::Isolate`] only: other scopes return their errors.
    find_cause: Option<Arc<dyn Any + Send + Sync>>,
    /// On its own cache lines, as the lists and the state: the children of all workers write them, and each poll reads the
    /// fields above.
    pub(crate) gate: Padded<Gate>,
    pub(crate) releases: Counters,
    level: AtomicU8,
    token: OnceLock<CancelToken>,
    /// Each group of threads has a list: the thread that first polls a child adds it to a list, and the child usually ends
    /// on that thread. With a single list, two workers spent half of their time on its lock.
    lists: [Padded<Mutex<List>>; LISTS],
    state: Padded<Mutex<State>>,
}

/// Returns a number that it never returned before. Each thread takes a block of numbers, so that threads do not contend.
pub(crate) fn next_id() -> u64 {
    const BLOCK: u64 = 1 << 10;
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    let next = |next: &Cell<u64>| {
        let mut id = next.get();
        if id.is_multiple_of(BLOCK) {
            id = BLOCKS.fetch_add(1, Ordering::Relaxed) * BLOCK;
        }
        next.set(id + 1);
        id
    };
    // The thread-local of a thread that ends is gone: the number is the first of a block.
    NEXT.try_with(next).unwrap_or_else(|_| BLOCKS.fetch_add(1, Ordering::Relaxed) * BLOCK)
}

/// The number of lists of children of a scope. Each has 128 bytes.
const LISTS: usize = 4;

/// The number of the list that the thread uses.
pub(crate) fn own_list() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    thread_local! {
        static OWN: u8 = NEXT.fetch_add(1, Ordering::Relaxed) % LISTS as u8;
    }
    // The thread-local of a thread that ends is gone. Any list can be used.
    OWN.try_with(|own| *own).unwrap_or(0)
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) scopes: Slab<Weak<Core>>,
    pub(crate) components: Slab<crate::observe::Component>,
    /// By their numbers, which are the order of their registration.
    pub(crate) finalizers: BTreeMap<u64, Finalizer>,
    pub(crate) next_finalizer: u64,
    pub(crate) release_failures: Vec<ReleaseError>,
    pub(crate) reason: Option<Reason>,
    /// The names of the children that had not ended when the deadline passed.
    pub(crate) unfinished: Vec<Name>,
    pub(crate) panics: Vec<Box<dyn Any + Send>>,
    /// Each is a `ChildError<E>` of the scope's own error type.
    pub(crate) failures: Vec<Box<dyn Any + Send>>,
    pub(crate) succeeded: bool,
    /// `None` while the body runs, and when it was dropped with its scope.
    pub(crate) body: Option<BodyEnd>,
}

/// How the body of a scope ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    Value,
    Failed,
    /// It was cancelled.
    Stopped,
}

pub(crate) struct Settings {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) policy: Policy,
    pub(crate) grace: Duration,
    pub(crate) release_timeout: Duration,
    pub(crate) deadline: Option<Instant>,
    pub(crate) keeps_ages: bool,
    pub(crate) blocking: Option<BlockingPool>,
    pub(crate) find_cause: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) span: TaskSpan,
    pub(crate) has_task_spans: bool,
    pub(crate) is_opened_shielded: bool,
}

impl Core {
    pub(crate) fn new(settings: Settings, parent: Option<Arc<Self>>, runtime: Handle) -> Self {
        let has_task_spans =
            settings.has_task_spans || parent.as_ref().is_some_and(|parent| parent.has_task_spans);
        let keeps_ages = settings.keeps_ages || parent.as_ref().is_some_and(|parent| parent.opened.is_some());
        Self {
            id: next_id(),
            name: settings.name,
            site: settings.site,
            policy: settings.policy,
            grace: settings.grace,
            release_timeout: settings.release_timeout,
            deadline: settings.deadline,
            runtime,
            parent,
            opened: keeps_ages.then(Instant::now),
            blocking: settings.blocking,
            find_cause: settings.find_cause,
            span: settings.span,
            has_task_spans,
            is_opened_shielded: settings.is_opened_shielded,
            gate: Padded(Gate::new()),
            releases: Counters::default(),
            level: AtomicU8::new(Level::Open as u8),
            token: OnceLock::new(),
            lists: Default::default(),
            state: Padded(Mutex::default()),
        }
    }

    /// No user code runs under this lock, so a poisoned lock holds a sound state.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Costs a relaxed load. A task that a cancellation wakes sees it: the waker orders the two.
    #[inline]
    pub(crate) fn reached(&self, level: Level) -> bool {
        self.level.load(Ordering::Relaxed) >= level as u8
    }

    /// Cancels up to `level`. The first reason is kept.
    pub(crate) fn raise(&self, level: Level, reason: &Reason) {
        self.raise_for(level, || reason.clone());
    }

    /// Cancels up to `level`. `reason` is called only if the scope keeps the reason, or if a token receives it.
    pub(crate) fn raise_for(&self, level: Level, reason: impl Fn() -> Reason) {
        let mut state = self.state();
        if self.reached(level) {
            return;
        }
        // The success of a sibling cancels only the children, so it is not the reason of the body.
        let is_success = state.reason.as_ref().is_some_and(|reason| reason.kind() == ReasonKind::Succeeded);
        if (state.reason.is_none() || is_success) && level < Level::Services {
            let reason = reason();
            if reason.kind() == ReasonKind::Deadline {
                state.unfinished = self.names(Class::Work);
            }
            state.reason = Some(reason);
        }
        sim::op("scope.cancel");
        // The level is raised before the lists are locked: a child that is listed later sees the level, and a child that was
        // listed earlier is seen here.
        let before = self.level.swap(level as u8, Ordering::Relaxed);
        let mut wakers = WakeList::default();
        let mut tokens = Vec::new();
        drop(state);
        self.each_child(|child| {
            let at = child.spec.class.cancelled_at();
            if before < at as u8 && at <= level {
                wakers.extend(child.waker.cloned());
                tokens.extend(child.spec.token.clone());
            }
        });
        if let Some(token) = self.token.get()
            && level >= Level::Work
        {
            token.cancel(reason());
        }
        if mutant!("scope.tell_nobody") {
            tokens.clear();
        }
        for token in tokens {
            token.cancel(reason());
        }
        wakers.wake();
        self.gate.wake_joiner();
    }

    /// The list with the number.
    pub(crate) fn list(&self, number: u8) -> MutexGuard<'_, List> {
        self.lists[usize::from(number)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the closure for every listed child; within a list, the oldest first.
    pub(crate) fn each_child(&self, mut show: impl FnMut(Listed<'_>)) {
        (0..LISTS as u8).for_each(|number| self.list(number).for_each(&mut show));
    }

    /// The names of the children of a class, for a report.
    pub(crate) fn names(&self, class: Class) -> Vec<Name> {
        self.named(class).0
    }

    /// The names of the children of a class, and the number of further children: above the limit, or not polled yet.
    pub(crate) fn named(&self, class: Class) -> (Vec<Name>, usize) {
        let count = self.gate.count(class);
        let (mut names, mut hidden) = (Vec::new(), 0);
        self.each_child(|child| {
            if child.spec.class != class {
                return;
            }
            if child.spec.is_hidden() {
                hidden += 1;
            } else if names.len() < NAMES {
                names.push(child.spec.name.clone());
            }
        });
        let more = count.saturating_sub(names.len() + hidden);
        (names, more)
    }

    /// The token that is cancelled with the body.
    pub(crate) fn token(&self) -> &CancelToken {
        if let Some(token) = self.token.get() {
            return token;
        }
        let token = self.token.get_or_init(CancelToken::new);
        // Under the lock under which the level is raised: either this sees the cancellation, or the cancellation sees the
        // token.
        let state = self.state();
        let ended = || state.reason.clone().unwrap_or_else(|| Reason::of(ReasonKind::Ended));
        let reason = self.reached(Level::Work).then(ended);
        drop(state);
        if let Some(reason) = reason {
            token.cancel(reason);
        }
        token
    }

    /// The function that finds the cause in an error of a child; for an error of another type, one that finds nothing.
    pub(crate) fn find_cause<E: 'static>(&self) -> FindCause<E> {
        self.find_cause.as_ref().and_then(|find| find.downcast_ref().copied()).unwrap_or(opaque)
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.state().reason.clone()
    }

    /// Waits until `done` returns `true`. It is called whenever a class of children becomes empty, and whenever the
    /// cancellation level rises.
    pub(crate) async fn wait(&self, done: impl Fn(&Self) -> bool) {
        poll_fn(|cx| self.gate.poll_until(cx, || done(self))).await;
    }

    /// Closes the scope if it has no member and no pending release.
    pub(crate) fn close(&self) -> bool {
        // Both checks happen under the lock under which a member registers a release: otherwise a member could enter,
        // register a release and leave between the two checks.
        let state = self.state();
        state.finalizers.is_empty() && self.gate.close()
    }

    pub(crate) fn task_panicked(&self, task: Name, payload: Box<dyn Any + Send>) {
        crate::log::error!(scope = %self.name, %task, message = panic_message(&*payload), "a task panicked");
        if self.policy == Policy::Isolate {
            return quietly_drop(payload);
        }
        self.state().panics.push(payload);
        self.raise(Level::Work, &Reason::by(ReasonKind::Panicked, Some(task)));
    }

    /// Records a panic of the body, which the scope rethrows under every policy.
    pub(crate) fn body_panicked(&self, payload: Box<dyn Any + Send>) {
        crate::log::error!(scope = %self.name, message = panic_message(&*payload), "the body of a scope panicked");
        self.state().panics.push(payload);
        self.raise(Level::Work, &Reason::of(ReasonKind::Panicked));
    }

    /// The [`Exit`] that releases of this scope receive: it agrees with the result of the scope.
    pub(crate) fn exit(&self) -> Exit {
        let state = self.state();
        if !state.panics.is_empty() {
            return Exit::Panic;
        }
        if state.body == Some(BodyEnd::Failed) || (!state.failures.is_empty() && !state.succeeded) {
            return Exit::Err;
        }
        let late = state.reason.as_ref().is_some_and(|reason| reason.kind() == ReasonKind::Deadline);
        match state.body {
            Some(BodyEnd::Value) if !late => Exit::Ok,
            _ => Exit::Cancelled,
        }
    }
}

impl Class {
    /// The level at which children of this class are cancelled.
    #[inline]
    pub(crate) fn cancelled_at(self) -> Level {
        if mutant!("scope.services_first") {
            return Level::Children;
        }
        match self {
            Self::Work => Level::Children,
            Self::Service => Level::Services,
        }
    }
}
