//! Standard error as a place for diagnostics: a write never waits and never fails.
//!
//! A write appends to a buffer; a thread of its own writes the buffer out. What that thread meets - a reader that is
//! gone, a reader that reads nothing, a full disk - is counted, and reaches no one else.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

#[cfg(unix)]
use super::process::LAST_WORDS;

/// Bytes that may wait to be written. One write that begins below the limit is taken whole, so that a long one, such as
/// the tree of all tasks, is not cut.
const LIMIT: usize = 1 << 20;

/// Before another try, where standard error is in non-blocking mode and takes nothing now.
const RETRY: Duration = Duration::from_millis(10);

/// A writer to standard error that never waits and never fails, for logs and other diagnostics.
///
/// Where standard error is read slowly or not at all, up to 1 MiB is buffered and further lines are lost. Where it cannot
/// be written, as on a full disk, lines are lost too. [`stderr_stats`] counts both. Each write should be whole lines, since
/// a write is kept or lost as one.
///
/// [`run`](crate::run()) and [`App::run`](super::App::run) write their own messages through the same buffer, so the order
/// is kept. A process that ends, by `main` or by `exit`, waits at most a second for the buffered output; on systems other than
/// Unix, a program that does not end in `run` calls [`flush_stderr`].
///
/// # Examples
/// With `tracing-subscriber`, `tracing_subscriber::fmt().with_writer(motet::run::stderr)` has logs written this way.
/// ```
/// use std::io::Write as _;
///
/// writeln!(motet::run::stderr(), "one line")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
struct Stderr(());

/// Counts of the lines written to [`stderr()`] that were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StderrStats {
    /// Lines that were lost because the buffer was full: standard error was not read.
    pub overflowed: u64,
    /// Lines that were lost because the operating system refused to write them.
    pub failed: u64,
}

/// Returns a writer to standard error that never waits and never fails.
#[must_use]
pub fn stderr() -> impl Write + Copy + Send + Sync + std::fmt::Debug + 'static {
    Stderr(())
}

/// Returns the counts of lost lines of this process.
#[must_use]
pub fn stderr_stats() -> StderrStats {
    SINK.get().map_or_else(StderrStats::default, |sink| sink.lock().stats)
}

/// Waits until everything written to [`stderr()`] so far is written out or lost, for at most `limit`; returns `true` if it is.
///
/// Blocks the thread: for a program that ends by `abort`, or by a signal that it sends to itself.
pub fn flush_stderr(limit: Duration) -> bool {
    SINK.get().is_none_or(|sink| sink.flush(limit))
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SINK.get_or_init(Sink::start).append(bytes);
        Ok(bytes.len())
    }

    /// Does nothing: to wait is what this writer is there to avoid.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static SINK: OnceLock<Sink> = OnceLock::new();

#[derive(Default)]
struct Sink {
    state: Mutex<SinkState>,
    /// Something was appended.
    appended: Condvar,
    /// Something was written out or lost.
    written: Condvar,
}

#[derive(Default)]
struct SinkState {
    buffer: Vec<u8>,
    /// Bytes ever appended, and of these the ones that the thread is done with.
    appended: u64,
    done: u64,
    /// Of the bytes appended, those that a flush has waited for.
    awaited: u64,
    stats: StderrStats,
    /// There is no thread: nothing can be written.
    is_dead: bool,
}

impl SinkState {
    fn has_unawaited(&self) -> bool {
        self.awaited < self.appended
    }
}

impl Sink {
    fn start() -> Self {
        let spawned = thread::Builder::new().name("stderr".to_owned()).spawn(|| {
            // Set at once after this function has returned.
            let sink = SINK.wait();
            sink.write_out(&mut io::stderr());
        });
        let sink = Self::default();
        sink.lock().is_dead = spawned.is_err();
        flush_at_exit();
        sink
    }

    fn lock(&self) -> MutexGuard<'_, SinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.is_dead {
            state.stats.failed += lines(bytes);
        } else if state.buffer.len() >= LIMIT {
            state.stats.overflowed += lines(bytes);
        } else {
            state.buffer.extend_from_slice(bytes);
            state.appended += bytes.len() as u64;
            self.appended.notify_one();
        }
    }

    fn write_out(&self, out: &mut impl Write) -> ! {
        let mut chunk = Vec::new();
        let mut reported = 0;
        let mut state = self.lock();
        loop {
            state = self
                .appended
                .wait_while(state, |state| state.buffer.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut state.buffer, &mut chunk);
            let overflowed = state.stats.overflowed;
            drop(state);
            let failed = write_patiently(out, &chunk);
            // The lost lines followed this chunk.
            if failed == 0 && overflowed > reported {
                let note =
                    format!("[{} lines are lost here: standard error was not read]\n", overflowed - reported);
                if write_patiently(out, note.as_bytes()) == 0 {
                    reported = overflowed;
                }
            }
            state = self.lock();
            state.done += chunk.len() as u64;
            state.stats.failed += failed;
            chunk.clear();
            // A chunk is long after standard error was not read for a while. That memory is released.
            chunk.shrink_to(LIMIT / 16);
            self.written.notify_all();
        }
    }

    fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        let until = state.appended;
        state.awaited = until;
        let waited = self
            .written
            .wait_timeout_while(state, limit, |state| state.done < until && !state.is_dead)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

/// Has the end of the process wait for the buffered output: `main` may return at once after its last message.
#[allow(unsafe_code, reason = "there is no safe function for it")]
fn flush_at_exit() {
    #[cfg(unix)]
    {
        extern "C" fn flush() {
            // Not a second time for the same bytes: standard error is not read.
            if SINK.get().is_some_and(|sink| sink.lock().has_unawaited()) {
                let _written = flush_stderr(LAST_WORDS);
            }
        }
        // SAFETY: `flush` is a function of this program and so valid until its end; it does not panic. If it cannot be
        // registered, the last lines may be lost, as by `abort`.
        let _registered = unsafe { libc::atexit(flush) };
    }
}

/// Writes all of `bytes`; returns how many lines of it could not be written.
fn write_patiently(out: &mut impl Write, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return lines(rest),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => return lines(rest),
        }
    }
    0
}

/// The number of lines, of which the last may lack its end.
fn lines(bytes: &[u8]) -> u64 {
    bytes.split_inclusive(|byte| *byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails each write after the first `good` ones.
    struct Failing {
        good: usize,
        written: Vec<u8>,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.good == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.good -= 1;
            // In pieces, as a pipe that is nearly full takes them.
            let taken = bytes.len().min(4);
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted() {
        let mut out = Failing { good: 2, written: Vec::new() };
        assert_eq!(write_patiently(&mut out, b"one\ntwo\nthree\nfour"), 2);
        assert_eq!(out.written, b"one\ntwo\n");
        assert_eq!(write_patiently(&mut out, b""), 0);
    }

    #[test]
    fn full_buffer_loses_later_lines_and_counts_them() {
        let sink = Sink::default();
        sink.append(&[b'x'; LIMIT - 1]);
        // Begun below the limit, so it is taken whole.
        sink.append(&[b'y'; 10]);
        sink.append(b"lost\nand lost\n");
        let state = sink.lock();
        assert_eq!(state.buffer.len(), LIMIT + 9);
        assert_eq!(state.stats, StderrStats { overflowed: 2, failed: 0 });
    }

    #[test]
    fn stderr_flush_times_out_unless_empty_or_its_writer_is_dead() {
        let sink = Sink::default();
        assert!(sink.flush(Duration::ZERO), "there is nothing to wait for");
        sink.append(b"line\n");
        assert!(!sink.flush(Duration::from_millis(1)));
        sink.lock().is_dead = true;
        assert!(sink.flush(Duration::from_millis(1)));
    }
}
