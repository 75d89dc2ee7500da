//! The signals of a process.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::process::{GAVE_UP, say};
use crate::observe;
use crate::task::{Name, Reason, ReasonKind, root};

/// How much longer than its total time a shutdown may take, before the process ends whatever it does.
///
/// The shutdown keeps its time itself, unless the body blocks the thread that runs both.
const SLACK: Duration = Duration::from_secs(1);

/// Handles signals from now on; gives a future that ends at the first that asks to stop.
pub(super) fn watch(total: Duration) -> io::Result<impl Future<Output = Reason>> {
    let (first, stop) = oneshot::channel();
    let mut stops = os::Stops::new()?;
    let mut dumps = os::Dumps::new()?;
    // On a thread of the runtime: the one that runs the body may be blocked by it.
    root::service("signals", async move {
        let signal = stops.recv().await;
        // It may have ended already.
        let _ = first.send(Reason::new(ReasonKind::Shutdown, None, Some(Name::from(signal.name))));
        match timeout(total.saturating_add(SLACK), stops.recv()).await {
            Ok(again) => exit(again.code, &format!("{} again: the process ends at once", again.name)),
            Err(_) => exit(i32::from(GAVE_UP), "the program does not shut down: the process ends at once"),
        }
    });
    root::service("dumps", async move {
        loop {
            dumps.recv().await;
            dump_tree();
        }
    });
    Ok(async {
        match stop.await {
            Ok(reason) => reason,
            Err(_) => std::future::pending().await,
        }
    })
}

struct Signal {
    name: &'static str,
    code: i32,
}

const INTERRUPT: Signal = Signal { name: "SIGINT", code: 130 };

#[allow(clippy::exit, reason = "the user has asked twice, or the shutdown is blocked")]
fn exit(code: i32, why: &str) {
    say(why);
    std::process::exit(code);
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

    use super::{INTERRUPT, Signal};

    pub(super) struct Stops {
        interrupt: unix::Signal,
        terminate: unix::Signal,
    }

    impl Stops {
        pub(super) fn new() -> io::Result<Self> {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
        }

        pub(super) async fn recv(&mut self) -> Signal {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => Signal { name: "SIGTERM", code: 143 },
                _ = self.interrupt.recv() => INTERRUPT,
            }
        }
    }

    pub(super) struct Dumps(unix::Signal);

    impl Dumps {
        pub(super) fn new() -> io::Result<Self> {
            signal(SignalKind::user_defined1()).map(Self)
        }

        pub(super) async fn recv(&mut self) {
            if self.0.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(not(unix))]
mod os {
    use std::future::pending;
    use std::io;

    use super::{INTERRUPT, Signal};

    pub(super) struct Stops;

    impl Stops {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn recv(&mut self) -> Signal {
            match tokio::signal::ctrl_c().await {
                Ok(()) => INTERRUPT,
                Err(_) => pending().await,
            }
        }
    }

    pub(super) struct Dumps;

    impl Dumps {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn recv(&mut self) {
            pending().await
        }
    }
}
