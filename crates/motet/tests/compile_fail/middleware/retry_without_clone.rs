use motet::middleware::{Chain, PolicyError, retry};
use motet::resilience::Retry;

struct Request;

fn main() {
    let _ = Chain::new().with(retry(Retry::new())).to(|_: Request| async move { Ok::<(), PolicyError>(()) });
}
