//! Chains as services of tower.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::middleware::{Chain, Next};
use motet::task::{Nursery, scope, timeout};
use motet_http::bridge;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;
use tower_service::Service;

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &["bridge::Answering"], cancel, sweep };

#[test]
fn tower_call_dropped_anywhere_leaves_nothing_running() {
    cancel();
}

#[test]
fn tower_call_answers_or_times_out_and_leaves_nothing_running() {
    passes(sweep);
}

type Answer = Result<u32, Infallible>;

/// Counts those inside, each until its end.
#[derive(Clone, Default)]
struct Inside(Arc<AtomicUsize>);

struct Guard(Inside);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inside {
    fn service(
        &self,
    ) -> impl Service<u32, Response = u32, Error = Infallible, Future: Send> + Clone + Send + use<> {
        let inside = self.clone();
        let part = move |request: u32, next: Next<u32, Answer>| {
            let inside = inside.clone();
            async move {
                inside.0.fetch_add(1, Ordering::SeqCst);
                let _guard = Guard(inside);
                yield_now().await;
                next.run(request).await
            }
        };
        bridge::service(Chain::new().with(part).to(async |n: u32| {
            sleep(millis(n.into())).await;
            Ok::<_, Infallible>(n + 1)
        }))
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

fn cancel() {
    cancel_everywhere(
        async || Inside::default(),
        async |inside| assert_eq!(inside.service().call(7).await, Ok(8)),
        async |inside, _| assert!(inside.is_empty(), "it goes on"),
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let inside = Inside::default();
        let calls = scope(async |n: &Nursery| {
            for number in 0..6 {
                let mut service = inside.service();
                n.spawn("calls", async move {
                    if let Ok(answer) = timeout(millis(draw(8)), service.call(number)).await {
                        assert_eq!(answer, Ok(number + 1));
                    }
                });
            }
            Ok(())
        });
        calls.await.unwrap();
        assert!(inside.is_empty(), "it goes on");
    })
}
