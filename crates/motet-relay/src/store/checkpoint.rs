//! Moves committed pages from the write-ahead log into the database, outside of the writer's thread.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

use super::schema;

/// Requests checkpoints. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    requests: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(database: PathBuf) -> io::Result<Self> {
        // One request may wait; further requests during that time change nothing.
        let (requests, inbox) = sync_channel(1);
        let thread =
            Builder::new().name("relay-checkpoint".to_owned()).spawn(move || run(&database, &inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Requests a checkpoint. Never waits.
    pub(super) fn request(&self) {
        if let Some(requests) = &self.requests {
            // Full: a request is already waiting. Disconnected: the thread has logged why it ended.
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
            // The writer itself makes a checkpoint once the log is long, which is slower but safe.
            tracing::error!(%error, "cannot open a connection for checkpoints");
            return;
        }
    };
    while inbox.recv().is_ok() {
        if let Err(error) = passive(&connection) {
            tracing::warn!(%error, "checkpoint failed; the log grows until a checkpoint succeeds");
        }
    }
}

fn passive(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
