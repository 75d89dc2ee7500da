//! Question: how many items a second go through a bounded queue?
//!
//! So many producers send numbers and so many consumers take them, on one runtime of two workers (`shared`), or on two
//! of one worker each (`split`). One operation is one item. Each rival is used by its quickest documented way: item by
//! item, and, in the cases called `batch`, with what it offers for many at once; where it offers nothing, item by item.
//!
//! What ours gives and a rival may not, in neutral words:
//! - Many consumers: not tokio's mpsc nor thingbuf, which are left out where there are several.
//! - A part in tokio's coop budget, so that other tasks run while a full queue is drained: tokio's mpsc only.
//! - Parked senders go before newcomers: tokio, flume, loole and kanal; async-channel and crossfire let a newcomer in.
//! - A receive that is dropped leaves the item: all but kanal, by its documentation. A send that is dropped has not
//!   sent: tokio, async-channel, crossfire.
//! - Places held by permits (tokio, thingbuf), leases, `join`: ours alone has all of them behind one handle.
//!
//! What a part in the budget is for is measured as well: how long a neighbour in the same thread is kept from running
//! while three million items are drained.
//!
//! With a capacity of 1 and with 64 of each side, what is measured is how tasks are switched: reported, not judged.

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
