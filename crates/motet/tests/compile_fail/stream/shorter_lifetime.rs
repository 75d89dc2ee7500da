use motet::stream::Yielder;

// What is emitted through it would be gone before it is read.
fn shorter<'short>(yielder: Yielder<&'static str>) -> Yielder<&'short str> {
    yielder
}

fn main() {
    let _ = shorter;
}
