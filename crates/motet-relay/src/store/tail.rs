//! The newest events in memory, for the followers that are up to date.
//!
//! The writer adds the events of a commit as long as there is a follower. A follower that has fallen behind the buffer
//! reads the store until it has caught up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{EventRow, TenantSeq, Unreadable};

/// The buffer keeps up to `MAX_EVENTS` events with up to `MAX_BYTES` of data: about a second of a busy relay.
const MAX_EVENTS: usize = 4_096;
const MAX_BYTES: usize = 4 << 20;

/// Maximum number of events that a follower takes at once.
pub(super) const MAX_AT_ONCE: usize = 64;

/// An event on disk, shared by the followers.
#[derive(Debug)]
pub(crate) struct FeedEvent {
    pub(crate) row: EventRow,
    /// The reason why the event cannot be read; in that case only the number of `row` is valid.
    pub(crate) unreadable: Option<String>,
    /// The message of a feed, the same for all followers.
    sent_as: OnceLock<Bytes>,
}

impl FeedEvent {
    pub(super) fn new(row: EventRow) -> Arc<Self> {
        Arc::new(Self { row, unreadable: None, sent_as: OnceLock::new() })
    }

    pub(super) fn unreadable(tenant: TenantSeq, Unreadable { seq, why }: Unreadable) -> Arc<Self> {
        let row = EventRow {
            seq,
            tenant,
            uid: None,
            event_type: String::new(),
            data: Vec::new(),
            channels: Vec::new(),
            tags: Vec::new(),
            created_at: 0,
        };
        Arc::new(Self { row, unreadable: Some(why), sent_as: OnceLock::new() })
    }

    /// Returns the message; `write` creates it at the first call.
    pub(crate) fn sent_as(&self, write: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.sent_as.get_or_init(|| write(self)).clone()
    }
}

/// The events of a commit in progress.
#[derive(Debug, Default)]
pub(super) struct CommitEvents {
    newest: Option<i64>,
    /// `None` if there is no follower.
    events: Option<Vec<Arc<FeedEvent>>>,
    /// The event before the first one in memory.
    kept_after: i64,
    /// `true` if the followers must read the earlier events, and those of this commit, from the disk.
    has_erased: bool,
}

/// The state of [`CommitEvents`] before a job of the commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitMark {
    newest: Option<i64>,
    events: usize,
}

impl CommitEvents {
    pub(super) fn push(&mut self, seq: i64, row: impl FnOnce() -> EventRow) {
        self.newest = Some(seq);
        if let Some(events) = &mut self.events {
            events.push(FeedEvent::new(row()));
        }
    }

    /// Removes an event from memory once the commit is on disk, because its data was erased; with it all other events.
    pub(super) fn forget(&mut self, seq: i64) {
        self.has_erased |= self.events.is_some() && seq > self.kept_after;
    }

    pub(super) fn mark(&self) -> CommitMark {
        CommitMark { newest: self.newest, events: self.events.as_ref().map_or(0, Vec::len) }
    }

    /// Removes the events that were added since `mark`.
    pub(super) fn back_to(&mut self, mark: CommitMark) {
        self.newest = mark.newest;
        if let Some(events) = &mut self.events {
            events.truncate(mark.events);
        }
    }
}

#[derive(Debug)]
pub(super) struct EventTail {
    buffer: Mutex<TailBuffer>,
    newest: watch::Sender<i64>,
    followers: AtomicUsize,
}

impl EventTail {
    pub(super) fn new(newest: i64) -> Self {
        Self {
            buffer: Mutex::new(TailBuffer::after(newest)),
            newest: watch::Sender::new(newest),
            followers: AtomicUsize::new(0),
        }
    }

    /// Starts the events of the next commit.
    pub(super) fn begin(&self) -> CommitEvents {
        let is_followed = self.followers.load(Ordering::Relaxed) > 0;
        let kept_after = if is_followed { self.buffer().after } else { i64::MAX };
        CommitEvents { newest: None, events: is_followed.then(Vec::new), kept_after, has_erased: false }
    }

    /// Adds the events of a commit that is on disk.
    pub(super) fn append(&self, added: CommitEvents) {
        let mut buffer = self.buffer();
        let Some(newest) = added.newest else {
            if added.has_erased {
                *buffer = TailBuffer::after(buffer.newest());
            }
            return;
        };
        match added.events {
            Some(events) if self.followers.load(Ordering::Relaxed) > 0 && !added.has_erased => {
                buffer.append(events);
            }
            _ => *buffer = TailBuffer::after(newest),
        }
        drop(buffer);
        self.newest.send_replace(newest);
    }

    /// Subscribes to the events: from now on committed events are kept.
    pub(super) fn follow(self: Arc<Self>) -> TailSubscription {
        self.followers.fetch_add(1, Ordering::Relaxed);
        let newest = self.newest.subscribe();
        TailSubscription { tail: self, newest }
    }

    fn buffer(&self) -> MutexGuard<'_, TailBuffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription of a follower.
#[derive(Debug)]
pub(super) struct TailSubscription {
    tail: Arc<EventTail>,
    newest: watch::Receiver<i64>,
}

impl TailSubscription {
    /// The newest event on disk; 0 if there is none.
    pub(super) fn newest(&self) -> i64 {
        *self.newest.borrow()
    }

    pub(super) fn after(&self, position: i64) -> TailRead {
        self.tail.buffer().since(position)
    }

    /// Waits until there is an event after `position`.
    pub(super) async fn wait(&mut self, position: i64) {
        // Never closed: `self` holds the tail, which holds the sender.
        let _never_gone = self.newest.wait_for(|newest| *newest > position).await;
    }
}

impl Drop for TailSubscription {
    fn drop(&mut self) {
        let mut buffer = self.tail.buffer();
        if self.tail.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            *buffer = TailBuffer::after(buffer.newest());
        }
    }
}

/// The events after a position.
#[derive(Debug)]
pub(super) enum TailRead {
    /// The next events.
    Events(Vec<Arc<FeedEvent>>),
    /// The next events are in the store only.
    OnDisk,
    CaughtUp,
}

/// All events after the number `after`, up to the newest event.
#[derive(Debug)]
struct TailBuffer {
    after: i64,
    events: VecDeque<Arc<FeedEvent>>,
    bytes: usize,
}

impl TailBuffer {
    fn after(newest: i64) -> Self {
        Self { after: newest, events: VecDeque::new(), bytes: 0 }
    }

    fn newest(&self) -> i64 {
        self.events.back().map_or(self.after, |event| event.row.seq)
    }

    fn append(&mut self, events: Vec<Arc<FeedEvent>>) {
        for event in events {
            self.bytes += event.row.data.len();
            self.events.push_back(event);
        }
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.row.data.len();
            self.after = oldest.row.seq;
        }
    }

    fn since(&self, position: i64) -> TailRead {
        if position < self.after {
            return TailRead::OnDisk;
        }
        let first = self.events.partition_point(|event| event.row.seq <= position);
        let next: Vec<_> = self.events.range(first..).take(MAX_AT_ONCE).map(Arc::clone).collect();
        if next.is_empty() { TailRead::CaughtUp } else { TailRead::Events(next) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{
        Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use super::*;

    fn row(seq: i64, bytes: usize) -> EventRow {
        EventRow {
            seq,
            tenant: TenantSeq::DEFAULT,
            uid: None,
            event_type: "a".to_owned(),
            data: vec![b'1'; bytes],
            channels: Vec::new(),
            tags: Vec::new(),
            created_at: 0,
        }
    }

    #[derive(Debug, Clone)]
    enum TailStep {
        /// A commit of events of these sizes, after a gap in the numbers, and after a job that was rolled back if
        /// `true`.
        Commit(Vec<usize>, i64, bool),
        Follow,
        Leave,
    }

    fn step() -> impl Strategy<Value = TailStep> {
        let sizes = prop::collection::vec(prop_oneof![9 => 0..200usize, 1 => Just(256 << 10)], 0..90);
        prop_oneof![
            6 => (sizes, 1..50i64, any::<bool>()).prop_map(|(sizes, gap, undone)| TailStep::Commit(sizes, gap, undone)),
            2 => Just(TailStep::Follow),
            1 => Just(TailStep::Leave),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn recent_events_are_returned_in_order_without_gaps(steps in prop::collection::vec(step(), 1..80), ask: i64) {
            let tail = Arc::new(EventTail::new(7));
            let mut model: Vec<i64> = Vec::new();
            let mut followers = Vec::new();
            let mut newest = 7;
            for step in steps {
                match step {
                    TailStep::Commit(sizes, gap, undone) => {
                        let mut added = tail.begin();
                        let mark = added.mark();
                        if undone {
                            added.push(newest + 1, || row(newest + 1, 9));
                            added.back_to(mark);
                        }
                        let mut seq = newest + gap - 1;
                        for bytes in sizes {
                            seq += 1;
                            added.push(seq, || row(seq, bytes));
                            model.push(seq);
                            newest = seq;
                        }
                        tail.append(added);
                    }
                    TailStep::Follow => followers.push(Arc::clone(&tail).follow()),
                    TailStep::Leave => drop(followers.pop()),
                }
                let buffer = tail.buffer();
                prop_assert_eq!(buffer.newest(), newest);
                prop_assert!(buffer.events.len() <= MAX_EVENTS && buffer.bytes <= MAX_BYTES);
                prop_assert_eq!(buffer.bytes, buffer.events.iter().map(|event| event.row.data.len()).sum::<usize>());
                prop_assert!(!followers.is_empty() || buffer.events.is_empty(), "kept without a follower");
                for position in [0, buffer.after - 1, buffer.after, newest, ask.rem_euclid(newest + 2)] {
                    let next: Vec<_> = model.iter().copied().filter(|seq| *seq > position).take(MAX_AT_ONCE).collect();
                    match buffer.since(position) {
                        TailRead::Events(events) => {
                            prop_assert_eq!(events.iter().map(|event| event.row.seq).collect::<Vec<_>>(), next);
                        }
                        TailRead::CaughtUp => prop_assert!(next.is_empty()),
                        TailRead::OnDisk => prop_assert!(position < buffer.after),
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn commit_between_a_read_and_its_wait_ends_the_wait() {
        let tail = Arc::new(EventTail::new(0));
        let mut subscription = Arc::clone(&tail).follow();
        assert!(matches!(subscription.after(0), TailRead::CaughtUp));
        let mut added = tail.begin();
        added.push(3, || row(3, 1));
        tail.append(added);
        subscription.wait(0).await;
        assert!(matches!(subscription.after(0), TailRead::Events(events) if events.len() == 1));
        assert!(matches!(subscription.after(3), TailRead::CaughtUp));
    }
}
