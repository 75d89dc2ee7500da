//! Merge patches (RFC 7396): a member that is absent stays as it is, and `null` removes it.

use serde::{Deserialize, Deserializer};

use crate::store::Merge;

/// A member of a merge patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Patch<T> {
    /// The member is absent.
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T: Default> Patch<T> {
    /// Returns the new value, if there is one; `null` is the default value.
    pub(super) fn or_default(self) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Null => Some(T::default()),
            Self::Value(value) => Some(value),
        }
    }
}

impl<T> Patch<T> {
    /// Returns the change of an object that the patch is merged into.
    pub(super) fn merge<Whole: Default>(self) -> Option<Merge<Whole, T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(Merge::Replace(Whole::default())),
            Self::Value(patch) => Some(Merge::Patch(patch)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(default)]
        a: Patch<u32>,
    }

    #[test]
    fn absent_null_and_present_members_are_told_apart() {
        let read = |text| serde_json::from_str::<Body>(text).unwrap().a;
        assert_eq!(read("{}"), Patch::Absent);
        assert_eq!(read(r#"{"a":null}"#), Patch::Null);
        assert_eq!(read(r#"{"a":7}"#), Patch::Value(7));
        assert!(serde_json::from_str::<Body>(r#"{"a":"7"}"#).is_err());
    }
}
