use motet::container::Container;
use std::sync::Arc;

struct Config;
struct Pool;

fn main() {
    let mut c = Container::new();
    c.provide(|config: Arc<Config>| {
        drop(config);
        Pool
    });
}
