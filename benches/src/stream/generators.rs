//! Streams that emit numbers, with each library.

#![allow(clippy::disallowed_methods, reason = "a rival is a task that sends")]

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use motet::stream::generator;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;

use super::on;
use crate::measure::both_of;
use crate::report::{Case, Cases};

const ITEMS: u64 = 100_000;
const SHORT: u64 = 4;

fn ours(count: u64) -> impl Stream<Item = u64> + Send {
    generator(async move |mut y| {
        for number in 0..count {
            y.emit(number).await;
        }
    })
}

/// The innermost stream of `nested`. A separate function, as in a program: a stream that is both read in place and boxed is
/// not inlined.
fn ours_boxed(count: u64) -> Pin<Box<dyn Stream<Item = u64> + Send>> {
    Box::pin(generator(async move |mut y| {
        for number in 0..count {
            y.emit(number).await;
        }
    }))
}

fn nested() -> impl Stream<Item = u64> + Send {
    let around = |inner: Pin<Box<dyn Stream<Item = u64> + Send>>| {
        generator(async move |mut y| {
            let mut inner = inner;
            while let Some(number) = inner.next().await {
                y.emit(number).await;
            }
        })
    };
    around(Box::pin(around(ours_boxed(ITEMS))))
}

fn async_stream(count: u64) -> impl Stream<Item = u64> + Send {
    async_stream::stream! {
        for number in 0..count {
            yield number;
        }
    }
}

/// Like [`ours_boxed`].
fn async_stream_boxed(count: u64) -> Pin<Box<dyn Stream<Item = u64> + Send>> {
    Box::pin(async_stream::stream! {
        for number in 0..count {
            yield number;
        }
    })
}

fn async_stream_nested() -> impl Stream<Item = u64> + Send {
    let around = |mut inner: Pin<Box<dyn Stream<Item = u64> + Send>>| {
        async_stream::stream! {
            while let Some(number) = inner.next().await {
                yield number;
            }
        }
    };
    around(Box::pin(around(async_stream_boxed(ITEMS))))
}

fn async_fn_stream(count: u64) -> impl Stream<Item = u64> + Send {
    async_fn_stream::fn_stream(move |emitter| async move {
        for number in 0..count {
            emitter.emit(number).await;
        }
    })
}

fn genawaiter(count: u64) -> impl Stream<Item = u64> + Send {
    genawaiter::sync::Gen::new(move |co: genawaiter::sync::Co<u64>| async move {
        for number in 0..count {
            co.yield_(number).await;
        }
    })
}

struct HandWritten {
    next: u64,
    count: u64,
}

impl Stream for HandWritten {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        let number = self.next;
        self.next += 1;
        Poll::Ready((number < self.count).then_some(number))
    }
}

fn sender(count: u64) -> impl Stream<Item = u64> + Send {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        for number in 0..count {
            sender.send(number).await.expect("it is read");
        }
    });
    ReceiverStream::new(receiver)
}

async fn read(stream: impl Stream<Item = u64>, count: u64) {
    let mut stream = pin!(stream);
    let mut read = 0;
    while let Some(number) = stream.next().await {
        black_box(number);
        read += 1;
    }
    assert_eq!(read, count);
}

/// Reads streams of four numbers.
async fn read_short<S: Stream<Item = u64>>(make: fn(u64) -> S) {
    for _ in 0..ITEMS / SHORT {
        read(make(SHORT), SHORT).await;
    }
}

pub(super) fn run(cases: &mut Cases, runtime: &Runtime) {
    let items = u32::try_from(ITEMS).expect("few enough");
    let mut add = |case: &str, rival, ours: &mut dyn FnMut(), theirs: &mut dyn FnMut()| {
        let (ours, theirs) = both_of(items, ours, theirs);
        cases.extend(Case::median_and_minimum(case, rival, ours, theirs));
    };
    let mut generated = || on(runtime, read(ours(ITEMS), ITEMS));
    let name = "generator";
    add(name, "hand-written", &mut generated, &mut || {
        on(runtime, read(HandWritten { next: 0, count: ITEMS }, ITEMS))
    });
    add(name, "async-stream", &mut generated, &mut || on(runtime, read(async_stream(ITEMS), ITEMS)));
    add(name, "async-fn-stream", &mut generated, &mut || on(runtime, read(async_fn_stream(ITEMS), ITEMS)));
    add(name, "genawaiter", &mut generated, &mut || on(runtime, read(genawaiter(ITEMS), ITEMS)));
    add(name, "mpsc(64)", &mut generated, &mut || {
        on(runtime, async { read(sender(ITEMS), ITEMS).await });
    });
    let mut short = || on(runtime, read_short(ours));
    let name = "generator of 4";
    add(name, "async-stream", &mut short, &mut || on(runtime, read_short(async_stream)));
    add(name, "async-fn-stream", &mut short, &mut || on(runtime, read_short(async_fn_stream)));
    add(name, "genawaiter", &mut short, &mut || on(runtime, read_short(genawaiter)));
    let mut three = || on(runtime, read(nested(), ITEMS));
    add("generator, nested", "async-stream", &mut three, &mut || {
        on(runtime, read(async_stream_nested(), ITEMS))
    });
}
