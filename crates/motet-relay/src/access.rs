//! The scopes of API keys: what a key allows.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kind of request that a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// To publish events.
    Publish,
    /// To read and list everything except payloads and secrets.
    Read,
    /// To see payloads in answers: the data of events, and the responses of receivers. It adds to the scope `read`.
    ReadPayload,
    /// To create, change, pause and delete endpoints.
    Manage,
    /// To read and to replace the signing secrets of endpoints.
    Secrets,
    /// To send deliveries again.
    Replay,
    /// Everything, including keys.
    Admin,
}

impl KeyScope {
    /// All scopes.
    pub const ALL: [Self; 7] = [
        Self::Publish,
        Self::Read,
        Self::ReadPayload,
        Self::Manage,
        Self::Secrets,
        Self::Replay,
        Self::Admin,
    ];

    /// The name in the API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::ReadPayload => "read_payload",
            Self::Manage => "manage",
            Self::Secrets => "secrets",
            Self::Replay => "replay",
            Self::Admin => "admin",
        }
    }

    /// The requests that the scope allows, for the documentation of the API.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Publish => "to publish events",
            Self::Read => "to read and list everything except payloads and secrets",
            Self::ReadPayload => {
                "to see the data of events and the responses of receivers; it adds to the scope `read`"
            }
            Self::Manage => "to create, change, pause and delete endpoints",
            Self::Secrets => "to read and replace the signing secrets of endpoints",
            Self::Replay => "to send deliveries again",
            Self::Admin => "everything, including tenants and keys",
        }
    }

    /// The bit in the database. It must not change.
    const fn bit(self) -> u8 {
        match self {
            Self::Publish => 1,
            Self::Read => 1 << 1,
            Self::ReadPayload => 1 << 2,
            Self::Manage => 1 << 3,
            Self::Secrets => 1 << 4,
            Self::Replay => 1 << 5,
            Self::Admin => 1 << 6,
        }
    }
}

impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
            format!("{text:?} is not a scope; the scopes are {}", known.join(", "))
        })
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyScopes(u8);

impl KeyScopes {
    pub(crate) const ADMIN: Self = Self(KeyScope::Admin.bit());

    /// Returns `true` if the set allows requests of `scope`. `admin` allows all requests.
    pub(crate) const fn allow(self, scope: KeyScope) -> bool {
        self.0 & (scope.bit() | KeyScope::Admin.bit()) != 0
    }

    /// The scopes of the set itself: `admin` stands for no other scope here.
    pub(crate) fn iter(self) -> impl Iterator<Item = KeyScope> {
        KeyScope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The number in the database.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Reads the number in the database. Unknown bits allow nothing.
    pub(crate) fn from_bits(bits: u8) -> Self {
        KeyScope::ALL.into_iter().filter(|scope| bits & scope.bit() != 0).collect()
    }
}

impl FromIterator<KeyScope> for KeyScopes {
    fn from_iter<I: IntoIterator<Item = KeyScope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self(0), |set, scope| set | scope)
    }
}

impl BitOr<KeyScope> for KeyScopes {
    type Output = Self;

    fn bitor(self, scope: KeyScope) -> Self {
        Self(self.0 | scope.bit())
    }
}

impl fmt::Debug for KeyScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(KeyScope::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_stored_and_read_back() {
        for scope in KeyScope::ALL {
            let alone: KeyScopes = [scope].into_iter().collect();
            assert_eq!(KeyScopes::from_bits(alone.bits()), alone);
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            for other in KeyScope::ALL {
                assert_eq!(alone.allow(other), other == scope || scope == KeyScope::Admin, "{scope} {other}");
            }
        }
        let all: KeyScopes = KeyScope::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), KeyScope::ALL);
        assert_eq!(KeyScopes::from_bits(u8::MAX), all);
        assert!("everything".parse::<KeyScope>().unwrap_err().contains("read_payload"));
    }
}
