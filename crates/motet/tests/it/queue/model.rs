//! Compares a queue with a naive one, through random operations.

use std::collections::VecDeque;

use motet::queue::{self, Lease, Permit, SendError, TryRecvError, TrySendError};
use proptest::collection::vec;
use proptest::prelude::*;

use super::now;

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    SendAll(usize),
    Reserve,
    UsePermit(usize),
    DropPermit(usize),
    Recv,
    RecvMany(usize),
    Lease,
    Done(usize),
    GiveBack(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..8_usize;
    let step = prop_oneof![
        6 => Just(Step::Send),
        2 => at.clone().prop_map(Step::SendAll),
        3 => Just(Step::Reserve),
        2 => at.clone().prop_map(Step::UsePermit),
        2 => at.clone().prop_map(Step::DropPermit),
        4 => Just(Step::Recv),
        2 => at.clone().prop_map(Step::RecvMany),
        4 => Just(Step::Lease),
        2 => at.clone().prop_map(Step::Done),
        3 => at.prop_map(Step::GiveBack),
        1 => Just(Step::Close),
    ];
    vec(step, 0..120)
}

/// Items with the number of their returns; returned items come first.
#[derive(Default)]
struct Naive {
    items: VecDeque<(u64, u32)>,
    leased: Vec<(u64, u32)>,
    permits: usize,
    closed: bool,
}

impl Naive {
    fn free(&self, capacity: usize) -> usize {
        capacity - self.items.len() - self.leased.len() - self.permits
    }
}

/// The result of `reserve` that the result of `try_reserve` stands for.
fn tried<P>(reserved: Result<P, TrySendError<()>>) -> Option<Result<P, SendError<()>>> {
    match reserved {
        Ok(permit) => Some(Ok(permit)),
        Err(TrySendError::Closed(())) => Some(Err(SendError(()))),
        Err(TrySendError::Full(())) => None,
    }
}

proptest! {
    #[test]
    fn queue_agrees_with_a_naive_model(capacity in 1..9_usize, bounded in any::<bool>(), steps in steps()) {
        let (sender, receiver) = match bounded {
            true => queue::bounded(capacity).unwrap(),
            false => queue::unbounded(),
        };
        let capacity = if bounded { capacity } else { 1_000_000 };
        let mut naive = Naive::default();
        let mut permits: Vec<Permit<'_, u64>> = Vec::new();
        let mut leases: Vec<Lease<u64>> = Vec::new();
        let mut next = 0;
        for step in steps {
            let free = naive.free(capacity);
            match step {
                Step::Send => {
                    next += 1;
                    let expected = match (naive.closed, free) {
                        (true, _) => Err(TrySendError::Closed(next)),
                        (false, 0) => Err(TrySendError::Full(next)),
                        (false, _) => {
                            naive.items.push_back((next, 1));
                            Ok(())
                        }
                    };
                    prop_assert_eq!(sender.try_send(next), expected);
                }
                Step::SendAll(count) => {
                    let mut items: VecDeque<u64> = (next + 1..=next + count as u64).collect();
                    next += count as u64;
                    let fits = if naive.closed { 0 } else { count.min(free) };
                    naive.items.extend(items.iter().take(fits).map(|item| (*item, 1)));
                    let sent = now(sender.send_all(&mut items));
                    prop_assert_eq!(items.len(), count - fits);
                    prop_assert_eq!(sent.is_none(), !naive.closed && fits < count);
                }
                Step::Reserve => match if next % 2 == 0 { now(sender.reserve()) } else { tried(sender.try_reserve()) } {
                    Some(Ok(permit)) => {
                        prop_assert!(!naive.closed && free > 0);
                        naive.permits += 1;
                        permits.push(permit);
                    }
                    Some(Err(_)) => prop_assert!(naive.closed),
                    None => prop_assert!(!naive.closed && free == 0),
                },
                Step::UsePermit(at) => if !permits.is_empty() {
                    next += 1;
                    naive.permits -= 1;
                    let sent = permits.swap_remove(at % permits.len()).send(next);
                    prop_assert_eq!(sent.is_ok(), !naive.closed);
                    if sent.is_ok() {
                        naive.items.push_back((next, 1));
                    }
                },
                Step::DropPermit(at) => if !permits.is_empty() {
                    naive.permits -= 1;
                    drop(permits.swap_remove(at % permits.len()));
                },
                Step::Recv => {
                    let expected = match naive.items.pop_front() {
                        Some((item, _)) => Ok(item),
                        None if naive.closed && naive.leased.is_empty() => Err(TryRecvError::Closed),
                        None => Err(TryRecvError::Empty),
                    };
                    prop_assert_eq!(receiver.try_recv(), expected);
                }
                Step::RecvMany(most) => {
                    let mut items = Vec::new();
                    // All at once; but returned items come one by one.
                    loop {
                        let most = most - items.len();
                        if most == 0 || now(receiver.recv_many(&mut items, most)).is_none_or(|taken| taken == 0) {
                            break;
                        }
                    }
                    let count = most.min(naive.items.len());
                    let expected: Vec<u64> = naive.items.drain(..count).map(|(item, _)| item).collect();
                    prop_assert_eq!(items, expected);
                }
                Step::Lease => match receiver.try_lease() {
                    Ok(lease) => {
                        prop_assert_eq!(Some((*lease, lease.attempt())), naive.items.pop_front());
                        naive.leased.push((*lease, lease.attempt()));
                        leases.push(lease);
                    }
                    Err(_) => prop_assert!(naive.items.is_empty()),
                },
                Step::Done(at) => if !leases.is_empty() {
                    let at = at % leases.len();
                    naive.leased.swap_remove(at);
                    prop_assert_eq!(now(leases.swap_remove(at).done()), Some(Ok(())));
                },
                Step::GiveBack(at) => if !leases.is_empty() {
                    let at = at % leases.len();
                    let (item, attempt) = naive.leased.swap_remove(at);
                    naive.items.push_front((item, attempt + 1));
                    drop(leases.swap_remove(at));
                },
                Step::Close => {
                    naive.closed = true;
                    receiver.close();
                }
            }
            prop_assert_eq!(receiver.len(), naive.items.len());
            let settled = naive.items.is_empty() && naive.leased.is_empty();
            prop_assert_eq!(now(sender.join()).is_some(), settled);
        }
        let left: Vec<u64> = naive.items.iter().map(|(item, _)| *item).collect();
        prop_assert_eq!(receiver.shutdown_now(), left);
    }
}
