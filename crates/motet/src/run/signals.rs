//! The signals of a process.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::process::{GAVE_UP, LAST_WORDS, say};
use super::ready;
use super::reload::Reloads;
use super::stderr::flush_stderr;
use crate::observe;
use crate::task::{CancelToken, Name, Reason, ReasonKind, root};

/// How much longer than its total time a shutdown may take, before the process ends whatever it does.
///
/// The shutdown keeps its time itself, unless the body blocks the thread that runs both.
const SLACK: Duration = Duration::from_secs(1);

/// How long after the first signal another belongs to the same request to stop: `timeout(1)` and shells signal both
/// the process and its group.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Watches the signals until it is dropped.
pub(super) struct Watch {
    finished: Option<oneshot::Sender<()>>,
    /// Dropped with this: then the thread ends.
    _alive: oneshot::Sender<()>,
}

impl Watch {
    /// Ends the watch of the shutdown's time: the shutdown is over.
    pub(super) fn finished(mut self) -> Self {
        self.finished = None;
        self
    }
}

/// Installs the signal handlers. Returns a future that is ready at the first signal that requests a stop.
///
/// A further signal within [`SAME_REQUEST`] belongs to the first. After that an interrupt ends the process at once; a
/// SIGTERM or SIGHUP does not, since its sender can use SIGKILL for a process that takes too long.
///
/// The time of the shutdown counts from when `begun` is cancelled. With `on_hangup`, a SIGHUP requests a reload, and no stop.
pub(super) fn watch(
    total: Duration,
    begun: CancelToken,
    on_hangup: Option<Reloads>,
) -> io::Result<(impl Future<Output = Reason>, Watch)> {
    let (first, stop) = oneshot::channel();
    let (finished, is_finished) = oneshot::channel();
    let (alive, is_gone) = oneshot::channel();
    // A runtime and a thread of its own: all those of the program may be blocked by it.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        os::Signals::new(on_hangup.is_some())?
    };
    let (dumps, mut requested) = watch::channel(());
    let guard = Guard { signals, dumps, on_hangup, first: Some(first), begun, total, is_finished, is_gone };
    thread::Builder::new().name("signals".to_owned()).spawn(move || guard.run(&runtime))?;
    // In the runtime of the program, whose tree it prints.
    root::service("dumps", async move {
        // Until the thread ends.
        while requested.changed().await.is_ok() {
            dump_tree();
        }
    });
    let stop = async {
        match stop.await {
            Ok(reason) => reason,
            Err(_) => pending().await,
        }
    };
    Ok((stop, Watch { finished: Some(finished), _alive: alive }))
}

/// The state of the signal thread.
struct Guard {
    signals: os::Signals,
    /// Requests for the tree of tasks.
    dumps: watch::Sender<()>,
    on_hangup: Option<Reloads>,
    first: Option<oneshot::Sender<Reason>>,
    begun: CancelToken,
    total: Duration,
    is_finished: oneshot::Receiver<()>,
    is_gone: oneshot::Receiver<()>,
}

impl Guard {
    fn run(self, runtime: &Runtime) {
        let Self { mut signals, dumps, on_hangup, mut first, begun, total, is_finished, mut is_gone } = self;
        runtime.block_on(async {
            let mut announced = pin!(async {
                begun.cancelled().await;
                ready::stopping();
                pending::<()>().await;
            });
            let mut asked_at = None;
            let mut late = pin!(async {
                begun.cancelled().await;
                if timeout(total.saturating_add(SLACK), is_finished).await.is_ok() {
                    pending::<()>().await;
                }
            });
            loop {
                tokio::select! {
                    biased;
                    _ = &mut is_gone => return,
                    signal = signals.recv() => {
                        match (signal.kind, &on_hangup) {
                            (Kind::Dump, _) => {
                                dumps.send_replace(());
                                continue;
                            }
                            (Kind::Hangup, Some(reloads)) => {
                                reloads.request();
                                continue;
                            }
                            _ => {}
                        }
                        let asked_at = *asked_at.get_or_insert_with(now);
                        match first.take() {
                            // The program may have ended already.
                            Some(first) => drop(first.send(asked_by(&signal))),
                            None if signal.kind == Kind::Interrupt && now().duration_since(asked_at) >= SAME_REQUEST => {
                                exit(signal.code, &format!("{} again: the process ends at once", signal.name));
                            }
                            None => {}
                        }
                    }
                    () = &mut announced => {}
                    () = &mut late => {
                        exit(GAVE_UP.into(), "the program does not shut down: the process ends at once");
                    }
                }
            }
        });
    }
}

fn asked_by(signal: &Signal) -> Reason {
    Reason::new(ReasonKind::Shutdown, None, Some(Name::from(signal.name)))
}

struct Signal {
    name: &'static str,
    code: i32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ends a shutdown that goes on.
    Interrupt,
    Terminate,
    Hangup,
    /// Prints the tree of tasks.
    Dump,
}

const INTERRUPT: Signal = Signal { name: "SIGINT", code: 130, kind: Kind::Interrupt };

/// The real time: signals come from outside.
#[allow(clippy::disallowed_methods, reason = "a user who presses keys knows nothing of tokio's clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::exit, reason = "the user has asked twice, or the shutdown is blocked")]
fn exit(code: i32, why: &str) -> ! {
    say(why);
    // Written or lost, the process ends.
    let _written = flush_stderr(LAST_WORDS);
    std::process::exit(code)
}

/// Prints the live tasks of the runtime.
fn dump_tree() {
    if let Some(tree) = observe::snapshot() {
        say(tree.to_string().trim_end());
    }
}

#[cfg(unix)]
mod os {
    use std::io;

    use tokio::signal::unix::{self, SignalKind, signal};

    use super::{INTERRUPT, Kind, Signal};

    pub(super) struct Signals {
        interrupt: unix::Signal,
        terminate: unix::Signal,
        dump: unix::Signal,
        /// `None` where it was ignored at the start, as `nohup` asks for.
        hangup: Option<unix::Signal>,
    }

    impl Signals {
        pub(super) fn new(needs_hangup: bool) -> io::Result<Self> {
            let interrupt = signal(SignalKind::interrupt())?;
            let terminate = signal(SignalKind::terminate())?;
            let dump = signal(SignalKind::user_defined1())?;
            let takes_hangup = needs_hangup || !is_ignored(libc::SIGHUP);
            let hangup = takes_hangup.then(|| signal(SignalKind::hangup())).transpose()?;
            Ok(Self { interrupt, terminate, dump, hangup })
        }

        pub(super) async fn recv(&mut self) -> Signal {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => Signal { name: "SIGTERM", code: 143, kind: Kind::Terminate },
                _ = self.interrupt.recv() => INTERRUPT,
                () = hung_up(&mut self.hangup) => Signal { name: "SIGHUP", code: 129, kind: Kind::Hangup },
                _ = self.dump.recv() => Signal { name: "SIGUSR1", code: 138, kind: Kind::Dump },
            }
        }
    }

    async fn hung_up(hangup: &mut Option<unix::Signal>) {
        match hangup {
            Some(hangup) => drop(hangup.recv().await),
            None => std::future::pending().await,
        }
    }

    /// Returns `true` if the process ignores the signal.
    #[allow(unsafe_code, reason = "the standard library does not ask for it")]
    fn is_ignored(signal: libc::c_int) -> bool {
        let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: no action is set, and the one in place is written to memory of its type.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
        // SAFETY: on success it is written.
        asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
mod os {
    use std::future::pending;
    use std::io;

    use super::{INTERRUPT, Signal};

    pub(super) struct Signals;

    impl Signals {
        pub(super) fn new(_needs_hangup: bool) -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn recv(&mut self) -> Signal {
            match tokio::signal::ctrl_c().await {
                Ok(()) => INTERRUPT,
                Err(_) => pending().await,
            }
        }
    }
}
