use motet::middleware::Chain;

struct Settings;

fn main() {
    let _ = Chain::<u32, u32>::new().with(Settings).to(|n: u32| async move { n });
}
