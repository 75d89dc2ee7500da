//! The stall watch: a poll that blocks its thread is named.

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::Duration;

use motet::task::{Nursery, StallWatch, scope};

#[tokio::test]
async fn blocked_poll_is_reported_with_its_task_site_and_duration() {
    let (found, stalls) = mpsc::channel();
    let watch = StallWatch::start(Duration::from_millis(5), move |stall| found.send(stall).unwrap()).unwrap();
    let stall = scope(async |n: &Nursery<Infallible>| {
        let blocks = n.spawn("blocks", async move {
            let mut mine = None;
            // Other tests of the process may stall, too.
            while mine.is_none() {
                mine = Some(stalls.recv_timeout(Duration::from_secs(60)).expect("the watch sees this poll"))
                    .filter(|stall| stall.task == "blocks");
            }
            (mine, stalls)
        });
        let (stall, stalls) = blocks.await.unwrap();
        drop(watch);
        assert!(stalls.try_iter().all(|stall| stall.task != "blocks"), "one poll is reported once");
        Ok(stall)
    });
    let stall = stall.await.unwrap().unwrap();
    assert_eq!(stall.site.file(), file!());
    assert!(stall.running > Duration::from_millis(5));
    assert!(stall.to_string().starts_with("task `blocks` ("));
}
