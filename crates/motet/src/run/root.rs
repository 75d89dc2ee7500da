use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::phase::{Open, Phase};
use super::ready;
use super::reload::Reloads;
use super::shared::Shared;
use crate::task::{CancelToken, Nursery};

/// The nursery of the root scope and the phases of an [`App`](super::App), for the body of the program.
pub struct Root<E> {
    nursery: Nursery<E>,
    phases: Arc<[Open]>,
    shared: Arc<Shared<E>>,
    reloads: Reloads,
}

impl<E: Send + 'static> Root<E> {
    pub(super) fn new(
        nursery: Nursery<E>,
        phases: Arc<[Open]>,
        shared: Arc<Shared<E>>,
        reloads: Reloads,
    ) -> Self {
        Self { nursery, phases, shared, reloads }
    }

    pub(super) fn shared(&self) -> Arc<Shared<E>> {
        Arc::clone(&self.shared)
    }

    /// Returns a token that is cancelled when the shutdown begins, before the body and the children are cancelled. Cancelling
    /// it does not stop the program.
    #[must_use]
    pub fn stopping(&self) -> CancelToken {
        self.shared.begin_token().child()
    }

    /// Returns a handle that waits for requests to reload: a SIGHUP, in a program with
    /// [`App::reload_on_hangup`](super::App::reload_on_hangup), and calls of [`reload`](Self::reload).
    ///
    /// # Examples
    /// ```
    /// use motet::run::{App, Root};
    /// use std::{convert::Infallible, process::ExitCode};
    ///
    /// fn main() -> ExitCode {
    ///     App::new().reload_on_hangup().run(async |app: &Root<Infallible>| {
    ///         let mut reloads = app.reloads();
    ///         app.service("configuration", async move {
    ///             loop {
    ///                 reloads.recv().await;
    ///                 println!("read the configuration again");
    ///             }
    ///         });
    ///         Ok(()) // a server would wait here
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        let mut reloads = self.reloads.clone();
        reloads.see_all();
        reloads
    }

    /// Requests a reload, as a SIGHUP does: for tests, and for other ways to ask for it.
    pub fn reload(&self) {
        self.reloads.request();
    }

    /// Reports that the program is ready: to the log, and, with the feature `systemd`, to the service manager (a unit of
    /// `Type=notify`). In [`App::run`](super::App::run) the shutdown is reported to it without a call.
    ///
    /// With the feature, this is one datagram to a local socket. If it cannot be sent, a warning is logged.
    pub fn ready(&self) {
        crate::log::info!("the program is ready");
        ready::ready();
    }

    /// The phase `name`, to start members in.
    ///
    /// # Panics
    /// If the [`App`](super::App) has no phase of that name.
    #[must_use]
    #[track_caller]
    pub fn in_phase(&self, name: &str) -> Phase<'_, E> {
        match self.phases.iter().find(|phase| phase.name == *name) {
            Some(open) => Phase { open, root: self },
            None => {
                let known: Vec<_> = self.phases.iter().map(|phase| phase.name.as_str()).collect();
                panic!(
                    "the app has no phase `{name}`: declare it with `App::phase`, or use one of {known:?}"
                );
            }
        }
    }
}

impl<E> Deref for Root<E> {
    type Target = Nursery<E>;

    fn deref(&self) -> &Nursery<E> {
        &self.nursery
    }
}

impl<E> fmt::Debug for Root<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("nursery", &self.nursery).finish_non_exhaustive()
    }
}
