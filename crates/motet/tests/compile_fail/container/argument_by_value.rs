use motet::container::Container;

struct Config;
struct Pool;

fn main() {
    let mut c = Container::new();
    c.provide(|config: Config| async move {
        drop(config);
        Pool
    });
}
