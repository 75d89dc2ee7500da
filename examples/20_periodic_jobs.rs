// Jobs that run again and again: at an interval, and at times of the calendar.
// A job that fails is run again when it is due; the jobs end with the scope.
// Run it: cargo run -p motet-examples --example 20_periodic_jobs

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use motet::periodic::{cron, every};
use motet::task::{Nursery, scope};
use tokio::time::sleep;

static CHECKS: AtomicU32 = AtomicU32::new(0);

async fn check() -> Result<(), &'static str> {
    let check = CHECKS.fetch_add(1, Ordering::Relaxed) + 1;
    if check.is_multiple_of(3) {
        return Err("no answer");
    }
    println!("Check {check} passed");
    Ok(())
}

async fn report() {
    println!("Report of the minute");
}

async fn run_jobs(time: Duration) -> Result<(), Box<dyn Error>> {
    let checks = every(Duration::from_millis(500))?.name("check").immediately();
    let reports = cron("* * * * *")?.name("report").jitter(Duration::from_secs(1));
    scope(async |n: &Nursery| {
        checks.start(n, check).expect("the scope is open");
        reports.start(n, report).expect("the scope is open");
        sleep(time).await; // the work of the program
        // Last result, next time and counts of each job.
        println!("{}", n.snapshot());
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run_jobs(Duration::from_secs(5)).await
}
