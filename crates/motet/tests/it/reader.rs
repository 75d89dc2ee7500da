//! Subscribers of log events.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A subscriber that calls a closure with each event.
pub(crate) struct OnEvent<F>(F);

/// Reads each value that is logged, since the code of a value that is never shown is never called.
pub(crate) fn reader() -> impl Subscriber + Send + Sync {
    OnEvent(|event: &Event<'_>| {
        event.record(&mut |_: &Field, value: &dyn fmt::Debug| drop(format!("{value:?}")))
    })
}

/// Panics at each event, as a subscriber does that writes to a standard error that is closed.
pub(crate) fn panics_at_events() -> impl Subscriber + Send + Sync {
    OnEvent(|_: &Event<'_>| panic!("a log line cannot be written"))
}

/// Stores the log events of its thread, one line per event.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    pub(crate) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let lines = Arc::clone(&self.0);
        OnEvent(move |event: &Event<'_>| {
            let mut line = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                line.push_str(&format!("{}={value:?} ", field.name()));
            });
            lines.lock().unwrap().push((*event.metadata().level(), line));
        })
    }

    /// The lines of this level, and of the more severe ones.
    pub(crate) fn at_least(&self, level: Level) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(of, _)| *of <= level).map(|(_, line)| line.clone()).collect()
    }
}

impl<F: Fn(&Event<'_>) + 'static> Subscriber for OnEvent<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        (self.0)(event);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
