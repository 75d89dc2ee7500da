#![deny(unused_must_use)]
use motet::middleware::{Chain, Next};

async fn forget(n: u32, next: Next<u32, u32>) -> u32 {
    next.run(n);
    n
}

fn main() {
    let _ = Chain::new().with(forget).to(|n: u32| async move { n });
}
