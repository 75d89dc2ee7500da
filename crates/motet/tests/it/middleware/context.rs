//! What parts tell those inside of them.

use std::sync::Arc;

use motet::middleware::{Chain, Context, Next};

#[derive(Debug, PartialEq)]
struct Id(u32);

#[tokio::test]
async fn a_value_is_seen_outside_of_the_part_that_added_it() {
    let add = async |n: u32, next: Next<u32, Option<u32>>| {
        assert!(next.context().is_empty());
        next.with(Id(n)).run(n).await
    };
    let see = async |n: u32, next: Next<u32, Option<u32>>| {
        assert_eq!(next.context().get::<Id>(), Some(&Id(n)));
        assert_eq!(next.context().get::<u32>(), None);
        next.run(n).await
    };
    let handler = Chain::new()
        .with(add)
        .with(see)
        .to_with_context(async |_, cx: Context| cx.get::<Id>().map(|id| id.0));
    assert_eq!(handler.call(5).await, Some(5));
}

#[tokio::test]
async fn attempts_see_the_values_of_each_other() {
    let attempts = async |(): (), next: Next<(), (u32, u32)>| {
        let next = next.with(Id(0)).with("shared");
        let (first, _) = next.clone().with(Id(1)).run(()).await;
        let (second, _) = next.clone().with(Id(2)).run(()).await;
        let (outer, depth) = next.run(()).await;
        assert_eq!((outer, depth), (0, 6));
        (first, second)
    };
    let handler = Chain::new().with(attempts).to_with_context(async |(), cx: Context| {
        let shared = cx.get::<&'static str>().unwrap();
        (cx.get::<Id>().unwrap().0, shared.len() as u32)
    });
    assert_eq!(handler.call(()).await, (1, 2));
}

#[tokio::test]
async fn a_caller_cannot_say_what_it_knows() {
    let inner = Chain::new().to_with_context(async |(), cx: Context| cx.get::<Id>().map(|id| id.0));
    let handler = Chain::new().to(inner);
    assert_eq!(handler.call_with((), Context::new().with(Id(3))).await, Some(3));
    assert_eq!(handler.call(()).await, None);
}

#[test]
fn a_hidden_value_is_given_instead_of_the_newest() {
    let outer = Context::new().with(Id(1)).with("text");
    let inner = outer.clone().with(Id(2));
    assert_eq!((outer.get(), inner.get()), (Some(&Id(1)), Some(&Id(2))));
    assert_eq!(inner.get::<&'static str>(), Some(&"text"));
    let names = format!("{inner:?}");
    assert!(names.ends_with("Id\"]") && names.contains("Id\", \"&str\", "), "{names}");
}

#[test]
fn many_values_overflow_the_stack_when_they_are_dropped() {
    let value = Arc::new(());
    let mut cx = Context::new();
    for _ in 0..200_000 {
        cx = cx.with(Arc::clone(&value));
    }
    let part = cx.clone().with(1);
    drop(cx);
    assert_eq!(Arc::strong_count(&value), 200_001);
    drop(part);
    assert_eq!(Arc::strong_count(&value), 1);
}
