use motet::middleware::{Chain, Next};

async fn text(n: u32, next: Next<u32, u32>) -> String {
    next.run(n).await.to_string()
}

fn main() {
    let _ = Chain::new().with(text).to(|n: u32| async move { n });
}
