//! What runs, as data.
#[allow(dead_code, reason = "placeholder while the core is built")]
pub(crate) struct Component;
