//! Chains around chains over other types.

use std::num::ParseIntError;

use motet::middleware::{Chain, Context, Next};

use super::Noting;
use crate::notes::Log;

type Text = Result<String, ParseIntError>;

async fn parse(text: String, next: Next<i64, i64>) -> Text {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("minus ", digits),
        None => ("", text.as_str()),
    };
    let number = digits.parse()?;
    Ok(format!("{sign}{}", next.run(number).await))
}

#[tokio::test]
async fn middleware_after_an_adapter_runs_inside_of_it() {
    let log = Log::default();
    let handler = Chain::new()
        .with(Noting("text", log.clone()))
        .adapt(parse)
        .with(Noting("number", log.clone()))
        .to(async |n| n + 1);
    assert_eq!(handler.call("-41".to_owned()).await.unwrap(), "minus 42");
    assert_eq!(log.read()[..2], ["text begins", "number begins"]);
    assert_eq!(handler.describe().to_string(), "text > parse > number > closure");
}

#[tokio::test]
async fn adapter_that_answers_itself_skips_the_inner_middleware() {
    let log = Log::default();
    let handler = Chain::new().adapt(parse).with(Noting("number", log.clone())).to(async |n| n);
    assert!(handler.call("x".to_owned()).await.is_err());
    assert!(log.read().is_empty());
}

#[tokio::test]
async fn two_adapters_keep_their_order_and_new_parts_go_inside() {
    let lengthen = async |n: i64, next: Next<Vec<i64>, usize>| next.run(vec![0; n as usize]).await as i64;
    let chain = Chain::new().adapt(parse).with(super::pass).adapt(lengthen);
    assert_eq!(chain.describe().to_string(), "parse > pass > closure");
    let chain = chain.with(super::pass);
    let missing = chain.clone().insert_before("parse", super::pass).unwrap_err();
    assert_eq!(missing.to_string(), "the chain has no part `parse`; it has `pass`");
    // One chain, with two handlers.
    let (count, none) = (chain.clone().to(async |v: Vec<i64>| v.len()), chain.to(async |_| 0));
    assert_eq!(count.call("12".to_owned()).await.unwrap(), "12");
    assert_eq!(none.call("12".to_owned()).await.unwrap(), "0");
    assert_eq!(count.describe().to_string(), "parse > pass > closure > pass > closure");
}

#[tokio::test]
async fn context_passes_through_an_adapter() {
    let mark = async |text: String, next: Next<String, Text>| next.with(7_u8).run(text).await;
    let handler = Chain::new()
        .with(mark)
        .adapt(parse)
        .to_with_context(async |n, cx: Context| n + i64::from(*cx.get::<u8>().unwrap()));
    assert_eq!(handler.call("1".to_owned()).await.unwrap(), "8");
}
