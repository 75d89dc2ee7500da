//! The allocations of a child. A separate program, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use motet::task::{Nursery, Policy, Scope, ScopeBuilder};
use tokio::runtime::Builder;
use tracing::subscriber::with_default;
use tracing::{Instrument, info_span};

use counting::{allocations, bytes};

/// The number and the bytes of the allocations of this number of children, each awaited, and the first of the scope.
fn of_children(options: &ScopeBuilder, children: usize) -> (usize, usize) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = (allocations(), bytes());
    let work = options.clone().run(async |n: &Nursery| {
        for _ in 0..children {
            n.spawn("child", async {}).await.unwrap();
        }
        Ok(())
    });
    runtime.block_on(work.instrument(info_span!("request"))).unwrap();
    (allocations() - before.0, bytes() - before.1)
}

/// The number and the bytes of the allocations of one child.
fn of_a_child(options: &ScopeBuilder) -> (usize, usize) {
    const CHILDREN: usize = 100;
    // The first run also allocates the state that the thread keeps.
    of_children(options, CHILDREN);
    let (some, more) = (of_children(options, CHILDREN), of_children(options, 2 * CHILDREN));
    assert_eq!(((more.0 - some.0) % CHILDREN, (more.1 - some.1) % CHILDREN), (0, 0));
    ((more.0 - some.0) / CHILDREN, (more.1 - some.1) / CHILDREN)
}

#[test]
fn child_without_a_span_costs_one_allocation() {
    let plain = Scope::builder();
    for options in [&plain, &plain.clone().task_spans(), &plain.clone().policy(Policy::Isolate)] {
        let (count, size) = of_a_child(options);
        println!("without a subscriber: {count} allocation, {size} bytes");
        assert_eq!(count, 1, "{options:?}");
        assert!(size <= 256, "{size} bytes");
    }

    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    with_default(subscriber, || {
        let (in_a_span, size) = of_a_child(&plain);
        println!("in a span: {in_a_span} allocations, {size} bytes");
        assert_eq!(in_a_span, 2);
        let (in_its_own, size) = of_a_child(&plain.task_spans());
        println!("in a span of its own: {in_its_own} allocations, {size} bytes");
        assert!(in_its_own > in_a_span);
    });
}
