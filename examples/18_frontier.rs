// A crawler: workers that send the links of each page into the queue from which they take pages.
// A worker whose page fails tries it again later; when no page is left, the queue closes and the workers end.
// Run it: cargo run -p motet-examples --example 18_frontier

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::queue::{self, Receiver, WeakSender};
use motet::task::{Nursery, scope};
use tokio::time::sleep;

const ATTEMPTS: u32 = 3;
const MAX_PAGES: usize = 100;

#[derive(Debug, PartialEq, Eq)]
struct Page {
    url: String,
    depth: u32,
    /// The number of links, once the page is fetched.
    links: usize,
}

impl Page {
    fn new(url: &str, depth: u32) -> Self {
        Self { url: url.to_owned(), depth, links: 0 }
    }
}

/// The pages to visit. The set of known pages is bounded, and so is the queue, though it is of the kind `unbounded`: workers
/// that wait for capacity in their own queue would all wait, and no worker would be left to free a slot.
struct Frontier {
    // A `Sender` would keep the queue open for as long as the workers live, and they live for as long as it is open.
    queue: WeakSender<Page>,
    known: Mutex<HashSet<String>>,
}

impl Frontier {
    fn add(&self, page: Page) {
        let mut known = self.known.lock().expect("no code panics while it holds the lock");
        if known.len() < MAX_PAGES && known.insert(page.url.clone()) {
            // The queue is open: the page with this link is not done yet.
            if let Some(queue) = self.queue.upgrade() {
                queue.try_send(page).expect("an unbounded queue has capacity");
            }
        }
    }
}

async fn work<F, Fut>(
    pages: Receiver<Page>,
    frontier: Arc<Frontier>,
    visited: Arc<Mutex<Vec<Page>>>,
    fetch: F,
) where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Vec<String>, String>>,
{
    // `None` once the queue is closed and no page can come back.
    while let Some(mut page) = pages.lease().await {
        let settled = match fetch(page.url.clone()).await {
            Ok(links) => {
                for link in &links {
                    frontier.add(Page::new(link, page.depth + 1));
                }
                page.links = links.len();
                page.done_with(|page| visited.lock().expect("a push does not panic").push(page)).await
            }
            Err(error) if page.attempt() < ATTEMPTS => {
                println!("{} is tried again: {error}", page.url);
                page.retry(Duration::from_secs(1)).await
            }
            Err(error) => {
                println!("{} failed: {error}", page.url);
                page.done().await
            }
        };
        settled.expect("the queue was not shut down");
    }
}

/// Visits all pages that can be reached from `start`.
async fn crawl<F, Fut>(start: &str, workers: usize, fetch: F) -> Result<Vec<Page>, Box<dyn Error>>
where
    F: Fn(String) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Vec<String>, String>> + Send + 'static,
{
    let visited = Arc::new(Mutex::new(Vec::new()));
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::unbounded();
        let frontier = Arc::new(Frontier { queue: sender.downgrade(), known: Mutex::default() });
        frontier.add(Page::new(start, 0));
        for _ in 0..workers {
            n.spawn(
                "worker",
                work(receiver.clone(), Arc::clone(&frontier), Arc::clone(&visited), fetch.clone()),
            );
        }
        // A worker sends the links of a page before it settles the page: once all pages are settled, no work is left.
        sender.join().await.expect("the workers are there");
        Ok(()) // the sender is dropped here, which closes the queue
    })
    .await?;
    let visited = std::mem::take(&mut *visited.lock().expect("a push does not panic"));
    Ok(visited)
}

async fn fetch(url: String) -> Result<Vec<String>, String> {
    sleep(Duration::from_millis(100)).await;
    let links: &[&str] = match url.as_str() {
        "/" => &["/docs", "/blog", "/about"],
        "/docs" => &["/docs/queue", "/docs/task", "/"],
        "/blog" => &["/blog/1", "/blog/2", "/gone"],
        "/blog/1" => &["/blog/2", "/docs/queue"],
        "/gone" => return Err("404".to_owned()),
        _ => &["/"],
    };
    Ok(links.iter().map(|&link| link.to_owned()).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for page in crawl("/", 3, fetch).await? {
        println!("{} at depth {} has {} links", page.url, page.depth, page.links);
    }
    Ok(())
}
