//! Opens one connection, to the first address of a host that answers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::ConnectError;
use super::error::lacks_descriptors;
use super::kept::{Kept, Open};

/// The number of tries to get a descriptor; idle connections are closed in between.
const TRIES: u32 = 10;

/// The delay between these tries: the tasks of closed connections need it to end.
const ROOM_WAIT: Duration = Duration::from_millis(10);

/// The number of idle connections that are closed for one descriptor.
const GIVEN_UP_AT_ONCE: usize = 4;

/// The head start of an address before the next one is tried as well (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Dials the addresses in turn, each with a head start, and returns the first open connection, or `None` if there is no
/// address.
pub(super) async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
    kept: &Arc<Kept>,
) -> Option<Result<(TcpStream, Open), ConnectError>> {
    // An error about the other side has more information than a missing route on this machine.
    let says_little = ConnectError::is_about_this_machine;
    first(addresses.map(|address| dial(address, kept)), says_little).await
}

async fn dial(address: SocketAddr, kept: &Arc<Kept>) -> Result<(TcpStream, Open), ConnectError> {
    let connect = async || {
        let stream = TcpStream::connect(address).await?;
        // A request is written in one piece; Nagle's algorithm would only delay it.
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let lacking = match kept.open() {
            None => ConnectError::TooManyOpen { most: kept.most_open() },
            Some(open) => match connect().await {
                Ok(stream) => return Ok((stream, open)),
                Err(source) if lacks_descriptors(&source) => ConnectError::Dial { address, source },
                Err(source) => return Err(ConnectError::Dial { address, source }),
            },
        };
        if tries == TRIES {
            return Err(lacking);
        }
        kept.give_up(GIVEN_UP_AT_ONCE);
        sleep(ROOM_WAIT).await;
    }
}

/// Starts the attempts one after another: the next one when the last one has failed, or has had its head start. Returns
/// the first success, or the last failure with information, or any failure; `None` if there was no attempt.
async fn first<F, T, E>(
    attempts: impl Iterator<Item = F>,
    says_little: impl Fn(&E) -> bool,
) -> Option<Result<T, E>>
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
                        if last.is_none() || !says_little(&failed) {
                            last = Some(Err(failed));
                        }
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

    /// A failure with little information, after this time.
    const LITTLE: u64 = 11;

    /// Each attempt takes its time, and then succeeds or fails with it.
    async fn run(attempts: &[(u64, bool)]) -> (Option<Result<u64, u64>>, Duration) {
        let begun = Instant::now();
        let attempts = attempts.iter().map(|&(millis, succeeds)| async move {
            sleep(ms(millis)).await;
            if succeeds { Ok(millis) } else { Err(millis) }
        });
        (first(attempts, |millis| *millis == LITTLE).await, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn next_address_is_dialled_while_one_does_not_answer() {
        assert_eq!(run(&[(60_000, true), (10, true)]).await, (Some(Ok(10)), ms(260)));
    }

    #[tokio::test(start_paused = true)]
    async fn next_address_is_dialled_at_once_after_a_failure() {
        assert_eq!(run(&[(5, false), (10, true)]).await, (Some(Ok(10)), ms(15)));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_first_address_wins_when_it_answers_first() {
        assert_eq!(run(&[(300, true), (900, true)]).await, (Some(Ok(300)), ms(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn most_informative_failure_is_reported() {
        assert_eq!(run(&[(5, false), (LITTLE, false)]).await.0, Some(Err(5)));
        assert_eq!(run(&[(LITTLE, false), (5, false)]).await.0, Some(Err(5)));
        assert_eq!(run(&[(LITTLE, false)]).await.0, Some(Err(LITTLE)));
    }

    #[tokio::test(start_paused = true)]
    async fn dialling_fails_once_every_address_has_failed() {
        assert_eq!(run(&[(400, false), (10, false)]).await, (Some(Err(400)), ms(400)));
        assert_eq!(run(&[]).await, (None, ms(0)));
    }
}
