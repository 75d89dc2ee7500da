use motet::middleware::{Chain, timeout};
use std::time::Duration;

fn main() {
    let _ = Chain::<u32, u32>::new().with(timeout(Duration::from_secs(1))).to(|n: u32| async move { n });
}
