//! The context of a call: values that outer parts pass to inner parts.

use std::sync::Arc;

use motet::middleware::{Chain, Context, Next};

#[derive(Debug, PartialEq)]
struct Id(u32);

#[tokio::test]
async fn context_value_is_seen_by_inner_middleware_and_the_handler() {
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
async fn values_added_to_a_clone_of_next_are_seen_only_through_it() {
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
async fn call_with_passes_its_context_to_the_handler() {
    let inner = Chain::new().to_with_context(async |(), cx: Context| cx.get::<Id>().map(|id| id.0));
    let handler = Chain::new().to(inner);
    assert_eq!(handler.call_with((), Context::new().with(Id(3))).await, Some(3));
    assert_eq!(handler.call(()).await, None);
}

#[test]
fn newest_context_value_of_a_type_hides_older_ones() {
    let outer = Context::new().with(Id(1)).with("text");
    let inner = outer.clone().with(Id(2));
    assert_eq!((outer.get(), inner.get()), (Some(&Id(1)), Some(&Id(2))));
    assert_eq!(inner.get::<&'static str>(), Some(&"text"));
    let names = format!("{inner:?}");
    assert!(names.ends_with("Id\"]") && names.contains("Id\", \"&str\", "), "{names}");
}

#[test]
fn context_of_200_000_values_drops_without_stack_overflow() {
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
