use motet::stream::Yielder;

// An emitted item would be dropped before it is read.
fn shorter<'short>(yielder: Yielder<&'static str>) -> Yielder<&'short str> {
    yielder
}

fn main() {
    let _ = shorter;
}
