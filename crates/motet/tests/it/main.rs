//! The library's behaviour, through its public API.

mod closures;
mod scope;
mod timeout;
