use motet::middleware::Chain;

async fn double(n: u32) -> u32 {
    n * 2
}

fn main() {
    let _ = Chain::<u32, u32>::new().with(double).to(double);
}
