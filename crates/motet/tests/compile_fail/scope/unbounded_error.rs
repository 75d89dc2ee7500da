use motet::task::{Nursery, scope};

async fn run<E: Send + 'static>() {
    let _ = scope(async |n: &Nursery<E>| {
        n.spawn("one", async { 1 });
        Ok(())
    })
    .await;
}

fn main() {
    let _ = run::<std::fmt::Error>();
}
