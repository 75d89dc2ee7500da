use motet::middleware::{Chain, Next};

async fn pass(n: u32, next: Next<u32, u32>) -> u32 {
    next.run(n).await
}

fn main() {
    let _ = Chain::<u32, u32>::new().to(pass);
}
