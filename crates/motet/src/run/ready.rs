//! Reports to the service manager of the system, if there is one.

/// Reports that the program is ready.
pub(super) fn ready() {
    #[cfg(all(unix, feature = "systemd"))]
    systemd::notify(&sd_notify::NotifyState::Ready);
}

/// Reports that the program is shutting down.
pub(super) fn stopping() {
    #[cfg(all(unix, feature = "systemd"))]
    systemd::notify(&sd_notify::NotifyState::Stopping);
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
