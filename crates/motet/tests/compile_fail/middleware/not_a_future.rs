use motet::middleware::{Chain, Next};

fn main() {
    let _ = Chain::new().with(|n: u32, _: Next<u32, u32>| n).to(|n: u32| async move { n });
}
