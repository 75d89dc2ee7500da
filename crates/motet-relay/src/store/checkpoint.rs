//! Moves committed pages from the write-ahead log into the database, off the writer's thread.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

use super::schema;

/// Asks for a checkpoint; ends the thread when dropped.
#[derive(Debug)]
pub(super) struct Checkpointer {
    requests: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(database: PathBuf) -> io::Result<Self> {
        // One request may wait; asking again while it does changes nothing.
        let (requests, inbox) = sync_channel(1);
        let thread =
            Builder::new().name("relay-checkpoint".to_owned()).spawn(move || run(&database, &inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Never waits.
    pub(super) fn request(&self) {
        if let Some(requests) = &self.requests {
            // Full: a request is waiting already. Disconnected: the thread has logged why it ended.
            let _already_asked = requests.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn run(database: &std::path::Path, inbox: &Receiver<()>) {
    let connection = match schema::open_checkpointer(database) {
        Ok(connection) => connection,
        Err(error) => {
            // The writer checkpoints by itself once the log is long: slower, not unsafe.
            tracing::error!(%error, "no connection for checkpoints");
            return;
        }
    };
    while inbox.recv().is_ok() {
        if let Err(error) = passive(&connection) {
            tracing::warn!(%error, "checkpoint failed; the log keeps growing until one succeeds");
        }
    }
}

fn passive(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
