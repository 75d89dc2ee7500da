//! Reports to the service manager of the system, if there is one.

/// Reports that the program is ready.
pub(super) fn ready() {
    #[cfg(all(unix, feature = "systemd"))]
    systemd::notify(&sd_notify::NotifyState::Ready);
}

/// Reports that the program is shutting down, in a thread of its own: the socket and the subscriber may block, and the thread
/// of the signals must stay able to end a program that hangs.
pub(super) fn stopping() {
    #[cfg(all(unix, feature = "systemd"))]
    {
        let notify = || systemd::notify(&sd_notify::NotifyState::Stopping);
        let started = std::thread::Builder::new().name("systemd".to_owned()).spawn(notify);
        // Without a thread the program still shuts down, and systemd sees it end.
        drop(started);
    }
}

#[cfg(all(unix, feature = "systemd"))]
mod systemd {
    use sd_notify::NotifyState;

    /// Does nothing unless systemd asks for reports, which it does by the variable `NOTIFY_SOCKET`.
    pub(super) fn notify(state: &NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
            crate::log::warn!(
                error = &error as &dyn std::error::Error,
                "cannot report the state of the program to systemd"
            );
        }
    }
}
