use motet::container::Container;
use std::sync::Arc;

struct Config;
struct Pool;

fn main() {
    let mut c = Container::new();
    c.provide(|| async { Pool }).on_stop(|_: Arc<Config>| async {});
}
