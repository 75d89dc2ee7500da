//! The library's behaviour, through its public API.

mod closures;
mod resource;
mod scope;
