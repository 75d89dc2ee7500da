//! The library's behaviour, through its public API.

mod closures;
mod race;
mod scope;
mod timeout;
