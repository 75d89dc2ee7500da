use motet::task::scope;

fn main() {
    let _ = scope(async |n| {
        n.spawn("one", async { 1 });
        Ok(())
    });
}
