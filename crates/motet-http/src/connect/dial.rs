//! One connection, to whichever address of a host answers first.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::ConnectError;

/// An address has so much of a start before the next one is tried as well (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Dials the addresses in turn, each with a head start, and gives the first connection that stands; `None` if there is
/// no address.
pub(super) async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Option<Result<TcpStream, ConnectError>> {
    first(addresses.map(dial)).await
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        // A request is written at once and in full; waiting to fill a packet only adds delay.
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    connect.await.map_err(|source| ConnectError::Dial { address, source })
}

/// Begins the attempts one after another: the next when the one before has failed, or has had its head start. Gives
/// the first success, or the last failure; `None` if there was nothing to attempt.
async fn first<F, T, E>(attempts: impl Iterator<Item = F>) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts.fuse();
    let mut under_way = vec![Box::pin(attempts.next()?)];
    let mut head_start = pin!(sleep(HEAD_START));
    let mut last = None;
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            while let Some(attempt) = under_way.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(done)) => return Poll::Ready(Some(Ok(done))),
                    Poll::Ready(Err(failed)) => {
                        last = Some(Err(failed));
                        under_way.swap_remove(at);
                    }
                }
            }
            let is_time = head_start.as_mut().poll(cx).is_ready();
            if !is_time && !under_way.is_empty() {
                return Poll::Pending;
            }
            match attempts.next() {
                Some(next) => {
                    under_way.push(Box::pin(next));
                    head_start.set(sleep(HEAD_START));
                }
                None if under_way.is_empty() => return Poll::Ready(last.take()),
                None => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Each attempt takes its time and then succeeds with it, or fails with it.
    async fn run(attempts: &[(u64, bool)]) -> (Option<Result<u64, u64>>, Duration) {
        let begun = Instant::now();
        let attempts = attempts.iter().map(|&(millis, succeeds)| async move {
            sleep(ms(millis)).await;
            if succeeds { Ok(millis) } else { Err(millis) }
        });
        (first(attempts).await, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_answers_holds_the_next_one_up() {
        assert_eq!(run(&[(60_000, true), (10, true)]).await, (Some(Ok(10)), ms(260)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_at_once_costs_its_head_start() {
        assert_eq!(run(&[(5, false), (10, true)]).await, (Some(Ok(10)), ms(15)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_one_is_given_up_when_the_second_begins() {
        assert_eq!(run(&[(300, true), (900, true)]).await, (Some(Ok(300)), ms(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_failed_is_said_too_early_or_never() {
        assert_eq!(run(&[(400, false), (10, false)]).await, (Some(Err(400)), ms(400)));
        assert_eq!(run(&[]).await, (None, ms(0)));
    }
}
