use motet::stream::generator;

fn main() {
    let _ = generator(async |mut y| {
        let first = y.emit(1);
        let second = y.emit(2);
        first.await;
        second.await;
    });
}
