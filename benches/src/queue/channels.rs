//! The send and receive loops of each queue.

use std::collections::VecDeque;

/// The size of a batch in the cases called `batch`.
const BATCH: usize = 64;

/// The operations on a queue.
pub(super) trait Channel: Send + 'static {
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver);

    /// A further receiver of the queue.
    fn another(receiver: &Self::Receiver) -> Self::Receiver;

    /// Sends this number of items.
    fn produce(sender: Self::Sender, count: u64) -> impl Future<Output = ()> + Send;

    /// Receives all items, and returns their number.
    fn consume(receiver: &mut Self::Receiver) -> impl Future<Output = u64> + Send;
}

/// Defines a type for the queue of a crate: its two ends, its constructor, and the two loops.
macro_rules! channel {
    // Item by item: the future of a send, and the pattern of a successful receive.
    ($name:ident: $sender:ty, $receiver:ty, $new:path, $another:expr; $send:ident, $recv:ident, $is_one:ident) => {
        channel! {
            $name: $sender, $receiver, $new, $another;
            async fn produce(sender: Self::Sender, count: u64) {
                for item in 0..count {
                    sender.$send(item).await.expect("a receiver is there");
                }
            }
            async fn consume(receiver: &mut Self::Receiver) -> u64 {
                let mut count = 0;
                while receiver.$recv().await.$is_one() {
                    count += 1;
                }
                count
            }
        }
    };
    ($(#[$doc:meta])* $name:ident: $sender:ty, $receiver:ty, $new:path, $another:expr; $($ways:tt)*) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Channel for $name {
            type Sender = $sender;
            type Receiver = $receiver;

            fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
                $new(capacity)
            }

            fn another(receiver: &Self::Receiver) -> Self::Receiver {
                $another(receiver)
            }

            $($ways)*
        }
    };
}

fn has_one<T>(_: &T) -> T {
    unreachable!("it has one receiver")
}

fn bounded(capacity: usize) -> (motet::queue::Sender<u64>, motet::queue::Receiver<u64>) {
    motet::queue::bounded(capacity).expect("the capacity is valid")
}

channel!(
    Ours: motet::queue::Sender<u64>, motet::queue::Receiver<u64>,
    bounded, Clone::clone; send, recv, is_some
);
channel!(
    Tokio: tokio::sync::mpsc::Sender<u64>, tokio::sync::mpsc::Receiver<u64>,
    tokio::sync::mpsc::channel, has_one; send, recv, is_some
);
channel!(
    Thingbuf: thingbuf::mpsc::Sender<u64>, thingbuf::mpsc::Receiver<u64>,
    thingbuf::mpsc::channel, has_one; send, recv, is_some
);
channel!(
    Flume: flume::Sender<u64>, flume::Receiver<u64>,
    flume::bounded, Clone::clone; send_async, recv_async, is_ok
);
channel!(
    AsyncChannel: async_channel::Sender<u64>, async_channel::Receiver<u64>,
    async_channel::bounded, Clone::clone; send, recv, is_ok
);
channel!(
    Crossfire: crossfire::MAsyncTx<crossfire::mpmc::Array<u64>>,
    crossfire::MAsyncRx<crossfire::mpmc::Array<u64>>,
    crossfire::mpmc::bounded_async, Clone::clone; send, recv, is_ok
);
channel!(
    Loole: loole::Sender<u64>, loole::Receiver<u64>,
    loole::bounded, Clone::clone; send_async, recv_async, is_ok
);
channel!(
    Kanal: kanal::AsyncSender<u64>, kanal::AsyncReceiver<u64>,
    kanal::bounded_async, Clone::clone; send, recv, is_ok
);

channel! {
    OursBatch: motet::queue::Sender<u64>, motet::queue::Receiver<u64>, bounded, Clone::clone;
    async fn produce(sender: Self::Sender, count: u64) {
        let mut items = VecDeque::with_capacity(BATCH);
        for item in 0..count {
            items.push_back(item);
            if items.len() == BATCH {
                sender.send_all(&mut items).await.expect("a receiver is there");
            }
        }
        sender.send_all(&mut items).await.expect("a receiver is there");
    }
    async fn consume(receiver: &mut Self::Receiver) -> u64 {
        let (mut count, mut items) = (0, Vec::with_capacity(BATCH));
        while receiver.recv_many(&mut items, BATCH).await > 0 {
            count += items.drain(..).count() as u64;
        }
        count
    }
}

channel! {
    /// `recv_many`, and `reserve_many` to send.
    TokioBatch: tokio::sync::mpsc::Sender<u64>, tokio::sync::mpsc::Receiver<u64>,
    tokio::sync::mpsc::channel, has_one;
    async fn produce(sender: Self::Sender, count: u64) {
        let most = BATCH.min(sender.max_capacity()) as u64;
        let mut item = 0;
        while item < count {
            let places = most.min(count - item);
            for place in sender.reserve_many(places as usize).await.expect("a receiver is there") {
                place.send(item);
                item += 1;
            }
        }
    }
    async fn consume(receiver: &mut Self::Receiver) -> u64 {
        let (mut count, mut items) = (0, Vec::with_capacity(BATCH));
        while receiver.recv_many(&mut items, BATCH).await > 0 {
            count += items.drain(..).count() as u64;
        }
        count
    }
}

channel! {
    /// `drain`, after a receive that waited.
    FlumeBatch: flume::Sender<u64>, flume::Receiver<u64>, flume::bounded, Clone::clone;
    async fn produce(sender: Self::Sender, count: u64) {
        Flume::produce(sender, count).await;
    }
    async fn consume(receiver: &mut Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1 + receiver.drain().count() as u64;
        }
        count
    }
}

channel! {
    /// `drain`, after a receive that waited.
    LooleBatch: loole::Sender<u64>, loole::Receiver<u64>, loole::bounded, Clone::clone;
    async fn produce(sender: Self::Sender, count: u64) {
        Loole::produce(sender, count).await;
    }
    async fn consume(receiver: &mut Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1 + receiver.drain().count() as u64;
        }
        count
    }
}
