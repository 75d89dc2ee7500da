//! The library's behaviour, through its public API.

mod closures;
mod gather;
mod local;
mod race;
mod scope;
mod timeout;
