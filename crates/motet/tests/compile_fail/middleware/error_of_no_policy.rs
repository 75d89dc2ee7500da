use motet::middleware::{Chain, timeout};
use std::time::Duration;

struct Failed;

fn main() {
    let chain = Chain::<u32, Result<u32, Failed>>::new();
    let _ = chain.with(timeout(Duration::from_secs(1))).to(|n: u32| async move { Ok(n) });
}
