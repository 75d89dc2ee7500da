//! The tests of the examples.
//!
//! Each module includes the source of its example, so that the tests reach its private functions. `println!` is replaced:
//! it records the line and the time, which the tests read with [`Printed`].

#![allow(dead_code, reason = "the tests do not call the `main` of an example")]

/// Records a line in place of printing it.
macro_rules! println {
    ($($text:tt)*) => {
        crate::printed::record(format!($($text)*))
    };
}

mod printed;

mod api_client;
mod batch_processor;
mod connection_pool;
mod context_manager;
mod coroutine;
mod di_container;
mod event_emitter;
mod event_loop;
mod finish_at_ctrl_c;
mod frontier;
mod futures_and_tasks;
mod http_session;
mod iterators_and_generators;
mod middleware;
mod periodic_jobs;
mod pool_postgres;
mod postgres;
mod producer_consumer;
mod reqwest_policies;
mod retry_and_breaker;
mod settled_from_outside;
mod testing;

use printed::Printed;
