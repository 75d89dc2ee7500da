include!("../../18_frontier.rs");

mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use motet_testkit::sim::sim;
    use tokio::time::timeout;

    use super::*;
    use crate::Printed;

    const SITE: [&str; 8] =
        ["/", "/about", "/blog", "/blog/1", "/blog/2", "/docs", "/docs/queue", "/docs/task"];

    fn sorted(visited: &[Page]) -> Vec<&str> {
        let mut urls: Vec<_> = visited.iter().map(|page| page.url.as_str()).collect();
        urls.sort_unstable();
        urls
    }

    #[test]
    fn crawl_visits_each_page_once_and_ends_by_itself() {
        sim(|| async {
            let printed = Printed::begin();
            let crawled = timeout(Duration::from_secs(60), crawl("/", 3, fetch)).await;
            let visited = crawled.expect("the workers end by themselves").unwrap();
            assert_eq!(sorted(&visited), SITE);
            assert_eq!(visited[0], Page { url: "/".to_owned(), depth: 0, links: 3 });
            let mut lines = printed.lines();
            lines.retain(|line| line.starts_with("/gone"));
            assert_eq!(
                lines,
                ["/gone is tried again: 404", "/gone is tried again: 404", "/gone failed: 404"]
            );
        })
        .seeds(100)
        .run();
    }

    #[test]
    fn page_that_failed_once_is_fetched_again() {
        sim(|| async {
            let fetches = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&fetches);
            let fails_once = move |url: String| {
                let first = url == "/blog" && count.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if first {
                        return Err("reset".to_owned());
                    }
                    fetch(url).await
                }
            };
            let crawled = timeout(Duration::from_secs(60), crawl("/", 2, fails_once)).await;
            assert_eq!(sorted(&crawled.expect("it ends").unwrap()), SITE);
            assert_eq!(fetches.load(Ordering::Relaxed), 2);
        })
        .seeds(50)
        .run();
    }

    #[test]
    fn crawl_without_end_stops_at_the_limit_of_pages() {
        sim(|| async {
            let endless = |url: String| async move {
                sleep(Duration::from_millis(1)).await;
                Ok((0..3).map(|child| format!("{url}{child}")).collect())
            };
            let crawled = timeout(Duration::from_secs(60), crawl("/", 3, endless)).await;
            assert_eq!(crawled.expect("it ends").unwrap().len(), MAX_PAGES);
        })
        .seeds(10)
        .run();
    }
}
