// A program that finishes what it has begun when the user presses Ctrl-C, and reports how far it came.
// `stopping` shows the body that the program is asked to stop; the body is not dropped, but ends by itself.
// Run it, and press Ctrl-C: cargo run -p motet-examples --example 19_finish_at_ctrl_c

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use motet::run::{App, Root};
use tokio::time::sleep;

const FILES: u32 = 10;

async fn copy(file: u32) {
    println!("Copying file {file}");
    sleep(Duration::from_secs(1)).await;
}

async fn copies(root: &Root<Infallible>) -> Result<(), Infallible> {
    let stopping = root.stopping();
    let mut copied = 0;
    while copied < FILES && !stopping.is_cancelled() {
        copied += 1;
        copy(copied).await; // a Ctrl-C in the middle does not cut it off
    }
    match stopping.reason() {
        Some(reason) => println!("Copied {copied} of {FILES} files: {reason}"),
        None => println!("Copied all files"),
    }
    Ok(())
}

fn app() -> App {
    App::new().name("copy").body_ends_itself().work(Duration::from_secs(5))
}

fn main() -> ExitCode {
    app().run(copies)
}
