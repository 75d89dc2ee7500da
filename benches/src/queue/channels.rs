//! One way to send and to take, for each queue.

use std::collections::VecDeque;

/// How many go at once in the cases called `batch`.
const BATCH: usize = 64;

/// A queue as it is used here.
pub(super) trait Channel: Send + 'static {
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver);

    /// Another receiver of the same queue.
    fn another(receiver: &Self::Receiver) -> Self::Receiver;

    /// Sends so many numbers.
    fn produce(sender: Self::Sender, count: u64) -> impl Future<Output = ()> + Send;

    /// Takes all there are, and gives how many that was.
    fn consume(receiver: Self::Receiver) -> impl Future<Output = u64> + Send;
}

pub(super) struct Ours;

impl Channel for Ours {
    type Sender = motet::queue::Sender<u64>;
    type Receiver = motet::queue::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        motet::queue::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_some() {
            count += 1;
        }
        count
    }
}

pub(super) struct OursBatch;

impl Channel for OursBatch {
    type Sender = motet::queue::Sender<u64>;
    type Receiver = motet::queue::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        motet::queue::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

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

    async fn consume(receiver: Self::Receiver) -> u64 {
        let (mut count, mut items) = (0, Vec::with_capacity(BATCH));
        while receiver.recv_many(&mut items, BATCH).await > 0 {
            count += items.drain(..).count() as u64;
        }
        count
    }
}

pub(super) struct Tokio;

impl Channel for Tokio {
    type Sender = tokio::sync::mpsc::Sender<u64>;
    type Receiver = tokio::sync::mpsc::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        tokio::sync::mpsc::channel(capacity)
    }

    fn another(_: &Self::Receiver) -> Self::Receiver {
        unreachable!("it has one receiver")
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(mut receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_some() {
            count += 1;
        }
        count
    }
}

/// `recv_many`; what it has to send many at once, `reserve_many`, is used for as many.
pub(super) struct TokioBatch;

impl Channel for TokioBatch {
    type Sender = tokio::sync::mpsc::Sender<u64>;
    type Receiver = tokio::sync::mpsc::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        tokio::sync::mpsc::channel(capacity)
    }

    fn another(_: &Self::Receiver) -> Self::Receiver {
        unreachable!("it has one receiver")
    }

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

    async fn consume(mut receiver: Self::Receiver) -> u64 {
        let (mut count, mut items) = (0, Vec::with_capacity(BATCH));
        while receiver.recv_many(&mut items, BATCH).await > 0 {
            count += items.drain(..).count() as u64;
        }
        count
    }
}

pub(super) struct Thingbuf;

impl Channel for Thingbuf {
    type Sender = thingbuf::mpsc::Sender<u64>;
    type Receiver = thingbuf::mpsc::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        thingbuf::mpsc::channel(capacity)
    }

    fn another(_: &Self::Receiver) -> Self::Receiver {
        unreachable!("it has one receiver")
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_some() {
            count += 1;
        }
        count
    }
}

pub(super) struct Flume;

impl Channel for Flume {
    type Sender = flume::Sender<u64>;
    type Receiver = flume::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        flume::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send_async(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1;
        }
        count
    }
}

/// `drain`, after one that was waited for.
pub(super) struct FlumeBatch;

impl Channel for FlumeBatch {
    type Sender = flume::Sender<u64>;
    type Receiver = flume::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        flume::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        Flume::produce(sender, count).await;
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1 + receiver.drain().count() as u64;
        }
        count
    }
}

pub(super) struct AsyncChannel;

impl Channel for AsyncChannel {
    type Sender = async_channel::Sender<u64>;
    type Receiver = async_channel::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        async_channel::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_ok() {
            count += 1;
        }
        count
    }
}

pub(super) struct Crossfire;

impl Channel for Crossfire {
    type Sender = crossfire::MAsyncTx<crossfire::mpmc::Array<u64>>;
    type Receiver = crossfire::MAsyncRx<crossfire::mpmc::Array<u64>>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        crossfire::mpmc::bounded_async(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_ok() {
            count += 1;
        }
        count
    }
}

pub(super) struct Loole;

impl Channel for Loole {
    type Sender = loole::Sender<u64>;
    type Receiver = loole::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        loole::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send_async(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1;
        }
        count
    }
}

/// `drain`, after one that was waited for.
pub(super) struct LooleBatch;

impl Channel for LooleBatch {
    type Sender = loole::Sender<u64>;
    type Receiver = loole::Receiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        loole::bounded(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        Loole::produce(sender, count).await;
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv_async().await.is_ok() {
            count += 1 + receiver.drain().count() as u64;
        }
        count
    }
}

pub(super) struct Kanal;

impl Channel for Kanal {
    type Sender = kanal::AsyncSender<u64>;
    type Receiver = kanal::AsyncReceiver<u64>;

    fn new(capacity: usize) -> (Self::Sender, Self::Receiver) {
        kanal::bounded_async(capacity)
    }

    fn another(receiver: &Self::Receiver) -> Self::Receiver {
        receiver.clone()
    }

    async fn produce(sender: Self::Sender, count: u64) {
        for item in 0..count {
            sender.send(item).await.expect("a receiver is there");
        }
    }

    async fn consume(receiver: Self::Receiver) -> u64 {
        let mut count = 0;
        while receiver.recv().await.is_ok() {
            count += 1;
        }
        count
    }
}
