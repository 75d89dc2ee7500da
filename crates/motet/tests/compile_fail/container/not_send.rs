use motet::container::Container;
use std::rc::Rc;

struct Pool;

fn main() {
    let mut c = Container::new();
    c.provide(|| async {
        let local = Rc::new(1);
        std::future::ready(()).await;
        drop(local);
        Pool
    });
}
