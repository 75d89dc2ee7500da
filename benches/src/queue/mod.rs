//! Question: how many items per second pass through a bounded queue?
//!
//! Producers send numbers and consumers receive them, on one runtime of two workers (`shared`), or on two of one worker each
//! (`split`). One operation is one item. Each queue is used in its quickest documented way: item by item, and in the cases
//! called `batch` with its functions for many items; without such functions, item by item.
//!
//! Guarantees of motet that another queue may not state:
//! - Many consumers: tokio's mpsc and thingbuf have one consumer, and are left out of cases with several.
//! - A part in tokio's cooperative budget, so that other tasks run while a full queue is drained: tokio's mpsc.
//! - Waiting senders before newcomers: tokio, flume, loole and kanal.
//! - A dropped receive leaves the item: all but kanal, by its documentation. A dropped send has not sent: tokio,
//!   async-channel, crossfire.
//! - Capacity held by permits (tokio, thingbuf), leases, `join`: only motet has all of them with one handle.
//!
//! The effect of the budget is measured as well: the longest time that a neighbour in the same thread cannot run while three
//! million items are drained.
//!
//! With a capacity of 1 and with 64 tasks on each side, the cost is that of task switches: these cases are reported only.

mod asyncio;
mod channels;
mod shapes;
mod stall;

use crate::report::Cases;

pub(crate) fn run(cases: &mut Cases) {
    shapes::run(cases);
    stall::run(cases);
    asyncio::run(cases);
}
