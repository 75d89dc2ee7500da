use motet::stream::Yielder;

fn longer<'short>(yielder: Yielder<&'short str>) -> Yielder<&'static str> {
    yielder
}

fn main() {
    let _ = longer;
}
