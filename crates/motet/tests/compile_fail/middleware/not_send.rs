use motet::middleware::{Chain, Next};
use std::rc::Rc;

async fn count(n: u32, next: Next<u32, u32>) -> u32 {
    let local = Rc::new(n);
    next.run(n).await + *local
}

fn main() {
    let _ = Chain::new().with(count).to(|n: u32| async move { n });
}
