use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Takes down what a program does: on the terminal when it runs, in memory when it is tested.
///
/// A handle: clones write in the same journal.
///
/// # Examples
/// ```
/// use motet_examples::Journal;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let journal = Journal::in_memory();
/// tokio::time::sleep(std::time::Duration::from_secs(1)).await;
/// journal.note("a second has passed");
/// assert_eq!(journal.entries(), [(std::time::Duration::from_secs(1), "a second has passed")]);
/// # });
/// ```
#[derive(Debug)]
pub struct Journal<E> {
    begun: Instant,
    paper: Paper<E>,
}

#[derive(Debug)]
enum Paper<E> {
    Terminal,
    Memory(Arc<Mutex<Vec<(Duration, E)>>>),
}

impl<E> Journal<E> {
    /// Begins a journal that is printed, a line for each event.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { begun: Instant::now(), paper: Paper::Terminal }
    }

    /// Begins a journal that is kept, to be asked for its [`entries`](Self::entries).
    #[must_use]
    pub fn in_memory() -> Self {
        Self { begun: Instant::now(), paper: Paper::Memory(Arc::default()) }
    }

    /// Takes down an event.
    #[expect(clippy::print_stdout, reason = "the output of the examples is what their reader wants to see")]
    pub fn note(&self, event: E)
    where
        E: fmt::Display,
    {
        match &self.paper {
            Paper::Terminal => println!("{event}"),
            Paper::Memory(entries) => {
                let entry = (self.begun.elapsed(), event);
                entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
        }
    }

    /// Gives the events so far, in order, each with the time since the journal was begun; of a printed journal,
    /// nothing.
    #[must_use]
    pub fn entries(&self) -> Vec<(Duration, E)>
    where
        E: Clone,
    {
        match &self.paper {
            Paper::Terminal => Vec::new(),
            Paper::Memory(entries) => entries.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Gives the events so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<E>
    where
        E: Clone,
    {
        self.entries().into_iter().map(|(_, event)| event).collect()
    }
}

impl<E> Clone for Journal<E> {
    fn clone(&self) -> Self {
        let paper = match &self.paper {
            Paper::Terminal => Paper::Terminal,
            Paper::Memory(entries) => Paper::Memory(Arc::clone(entries)),
        };
        Self { begun: self.begun, paper }
    }
}
