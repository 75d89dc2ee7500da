use motet::task::{Nursery, scope};

#[derive(Debug)]
struct Refused;

fn main() {
    let _ = scope(async |n: &Nursery<Refused>| {
        n.try_spawn("one", async { Err::<(), _>(Refused) });
        Ok(())
    });
}
