//! The names and the order of parts.

use motet::middleware::{Chain, Next, named, with_state};

use super::{Noting, pass};
use crate::notes::Log;

async fn double(n: u32) -> u32 {
    n * 2
}

#[tokio::test]
async fn first_added_middleware_is_outermost() {
    let log = Log::default();
    let chain = Chain::new()
        .with(Noting("a", log.clone()))
        .with(Noting("b", log.clone()))
        .with(Noting("c", log.clone()));
    let handler = chain.to(double);
    assert_eq!(handler.call(21).await, 42);
    let expected = [
        "a begins",
        "b begins",
        "c begins",
        "c ends",
        "c dropped",
        "b ends",
        "b dropped",
        "a ends",
        "a dropped",
    ];
    assert_eq!(log.read(), expected);
    assert_eq!(handler.describe().to_string(), "a > b > c > double");
}

#[tokio::test]
async fn with_option_adds_middleware_only_if_some() {
    let log = Log::default();
    let chain = Chain::new().with_option(Some(Noting("on", log.clone()))).with_option(None::<Noting>);
    let handler = chain.to(double);
    assert_eq!(handler.call(1).await, 2);
    assert_eq!(log.read(), ["on begins", "on ends", "on dropped"]);
    assert_eq!(handler.describe().to_string(), "on > double");
}

#[test]
fn middleware_is_named_by_function_closure_or_given_name() {
    async fn checked<Q: Send + 'static, R: Send + 'static>(_: (), request: Q, next: Next<Q, R>) -> R {
        next.run(request).await
    }
    let captured = 1;
    let handler = Chain::new()
        .with(pass)
        .with(named("second", pass))
        .with(named("third".to_owned(), Noting("noting", Log::default())))
        .with(with_state((), checked))
        .with(move |n: u32, next: Next<_, _>| next.run(n + captured))
        .to(async |n: u32| n);
    assert_eq!(handler.describe().to_string(), "pass > second > third > checked > closure > closure");
    assert_eq!(format!("{handler:?}"), "Handler(pass > second > third > checked > closure > closure)");
}

#[tokio::test]
async fn insert_goes_beside_the_first_part_of_the_name_or_fails() {
    let log = Log::default();
    let part = |name| Noting(name, log.clone());
    let chain = Chain::<u32, u32>::new().with(part("a")).with(part("b")).with(part("b"));
    let chain = chain.insert_before("a", part("0")).unwrap();
    let chain = chain.insert_after("b", part("c")).unwrap();
    let chain = chain.insert_before("b", part("1")).unwrap();
    assert_eq!(chain.describe().to_string(), "0 > a > 1 > b > c > b");
    assert_eq!(format!("{:?}", chain.clone()), "Chain(0 > a > 1 > b > c > b)");
    let missing = chain.insert_after("z", part("y")).unwrap_err();
    assert_eq!(missing.name(), "z");
    assert_eq!(missing.to_string(), "the chain has no part `z`; it has `0`, `a`, `1`, `b`, `c`, `b`");
    let empty = Chain::<u32, u32>::new().insert_before("z", pass).unwrap_err();
    assert_eq!(empty.to_string(), "the chain has no part `z`; it has no parts");
}

#[tokio::test]
async fn cloned_chains_change_independently() {
    let log = Log::default();
    let base = Chain::new().with(Noting("base", log.clone()));
    let one = base.clone().with(Noting("more", log.clone())).to(double);
    let two = base.to(async |n: u32| n + 1);
    assert_eq!((one.call(1).await, two.call(1).await), (2, 2));
    assert_eq!(one.describe().to_string(), "base > more > double");
    assert_eq!(two.describe().to_string(), "base > closure");
}

#[tokio::test]
async fn chain_that_ends_in_another_chain_begins_before_it() {
    let log = Log::default();
    let inner = Chain::new().with(Noting("inner", log.clone())).to(double);
    let outer = Chain::new().with(Noting("outer", log.clone())).to(inner.clone());
    assert_eq!(outer.call(4).await, 8);
    assert_eq!(log.read()[..2], ["outer begins", "inner begins"]);
    assert_eq!(outer.describe().to_string(), "outer > inner > double");
}
