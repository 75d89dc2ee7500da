//! A value that is secret in logs.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

/// A value that `Debug` shows as `***`. Reading and writing JSON is not masked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Masked<T>(pub(crate) T);

impl<T> fmt::Debug for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> Deref for Masked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Masked<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_a_value_that_json_contains() {
        #[derive(Debug, Serialize)]
        struct Settings {
            name: &'static str,
            password: Option<Masked<&'static str>>,
        }
        let settings = Settings { name: "a", password: Some(Masked("hunter2")) };
        assert_eq!(format!("{settings:?}"), r#"Settings { name: "a", password: Some(***) }"#);
        assert_eq!(serde_json::to_string(&settings).unwrap(), r#"{"name":"a","password":"hunter2"}"#);
    }
}
