//! Behaviour of motet-testkit through its public API.

mod mock;
