//! Settings that a tenant or an endpoint overrides, and metadata, stored as JSON.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::StoreError;
use crate::config::TenantQuotas;

/// The settings of an endpoint; an absent setting is inherited from relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EndpointPolicy {
    /// Maximum number of attempts per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) rate: Option<NonZeroU32>,
    /// The body of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<RequestBody>,
    /// The names of the headers of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header_prefix: Option<HeaderPrefix>,
}

/// Returns the rate that applies: an endpoint can lower relay's rate with its own, but not raise it.
pub(crate) fn effective_rate(own: Option<NonZeroU32>, relay: Option<NonZeroU32>) -> Option<NonZeroU32> {
    own.into_iter().chain(relay).min()
}

/// The body of a request to a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestBody {
    /// `{"type":..,"timestamp":..,"data":..}`.
    #[default]
    Envelope,
    /// The data of the event alone.
    Data,
}

/// The prefix of the headers of a signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeaderPrefix {
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature`, as in Standard Webhooks.
    #[default]
    Webhook,
    /// `svix-id`, `svix-timestamp` and `svix-signature`.
    Svix,
}

/// Maximum size of the metadata of a tenant or an endpoint as JSON.
const MAX_METADATA_BYTES: usize = 4_096;

/// Maximum number of the headers that an endpoint adds to each delivery, and of the bytes of their names and values.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_BYTES: usize = 16 << 10;

/// A change of an object.
#[derive(Debug)]
pub(crate) enum Merge<Whole, Patch> {
    Replace(Whole),
    /// Merged into the stored object: a member that is absent stays, and `null` removes it.
    Patch(Patch),
}

/// A change of texts by their names.
pub(crate) type TextsChange = Merge<BTreeMap<String, String>, BTreeMap<String, Option<String>>>;

/// A change of a policy.
pub(crate) type PolicyChange<Policy> = Merge<Policy, Map<String, Value>>;

impl TextsChange {
    pub(super) fn apply(self, texts: &mut BTreeMap<String, String>) {
        match self {
            Self::Replace(whole) => *texts = whole,
            Self::Patch(patch) => {
                for (name, value) in patch {
                    match value {
                        Some(value) => texts.insert(name, value),
                        None => texts.remove(&name),
                    };
                }
            }
        }
    }
}

impl<Policy: Serialize + DeserializeOwned> PolicyChange<Policy> {
    pub(super) fn apply(self, policy: &mut Policy) -> Result<(), StoreError> {
        match self {
            Self::Replace(whole) => *policy = whole,
            Self::Patch(patch) => {
                let stored = serde_json::to_value(&*policy);
                let Ok(Value::Object(mut members)) = stored else {
                    return Err(StoreError::Internal("a policy is not a JSON object".to_owned()));
                };
                for (name, value) in patch {
                    // A member that is not known is refused below, also if it is null.
                    members.insert(name, value);
                }
                *policy = serde_json::from_value(Value::Object(members))
                    .map_err(|error| StoreError::Invalid(format!("policy: {error}")))?;
            }
        }
        Ok(())
    }
}

/// Writes metadata as JSON.
///
/// # Errors
/// [`StoreError::Invalid`] if it is too large.
pub(super) fn write_metadata(metadata: &BTreeMap<String, String>) -> Result<String, StoreError> {
    let text = write(metadata)?;
    if text.len() > MAX_METADATA_BYTES {
        return Err(StoreError::Invalid(format!(
            "metadata has {} bytes as JSON; at most {MAX_METADATA_BYTES} are allowed",
            text.len()
        )));
    }
    Ok(text)
}

/// Writes the headers of an endpoint as JSON.
///
/// The limits are those of the whole: a patch that is small may be merged into headers that are large already.
///
/// # Errors
/// [`StoreError::Invalid`] if there are too many, or they are too large.
pub(super) fn write_headers(headers: &BTreeMap<String, String>) -> Result<String, StoreError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS {
        let entries = headers.len();
        return Err(StoreError::Invalid(format!(
            "headers has {entries} entries; at most {MAX_HEADERS} are allowed"
        )));
    }
    if bytes > MAX_HEADER_BYTES {
        return Err(StoreError::Invalid(format!(
            "headers has {bytes} bytes of names and values; at most {MAX_HEADER_BYTES} are allowed"
        )));
    }
    write(headers)
}

/// The settings of a tenant. An absent setting is inherited from relay; by default it has no limit, or the one that it
/// names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TenantPolicy {
    /// Maximum number of events per second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) events_per_second: Option<NonZeroU32>,
    /// Maximum number of events at once; a second's events if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) events_burst: Option<NonZeroU32>,
    /// Maximum number of events per UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub(crate) events_per_day: Option<NonZeroU64>,
    /// Maximum number of pending deliveries; events are refused while there are as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub(crate) backlog_max: Option<NonZeroU64>,
    /// Maximum number of endpoints; 100 000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) endpoints_max: Option<NonZeroU32>,
    /// Maximum number of valid API keys; 1 000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) keys_max: Option<NonZeroU32>,
    /// Maximum size of the data of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(crate) event_bytes_max: Option<NonZeroU32>,
    /// How many seconds the data of a finished event is kept; 0: as long as its rows. The default is that of relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_keep_s: Option<u32>,
    /// How many seconds a finished event is kept with its deliveries and attempts; 0: forever. The default is that of relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_keep_s: Option<u32>,
    /// The body of the requests to the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<RequestBody>,
    /// The names of the headers of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header_prefix: Option<HeaderPrefix>,
}

/// The limits of a tenant whose policy sets none: rows that no quota of events limits must not fill the store.
const ENDPOINTS_MAX: u32 = 100_000;
pub(super) const KEYS_MAX: u32 = 1_000;

impl TenantPolicy {
    pub(super) fn endpoints_max(&self) -> u32 {
        self.endpoints_max.map_or(ENDPOINTS_MAX, NonZeroU32::get)
    }

    pub(super) fn keys_max(&self) -> u32 {
        self.keys_max.map_or(KEYS_MAX, NonZeroU32::get)
    }

    /// Returns the settings that apply, with those of relay in place of absent ones.
    #[must_use]
    pub(super) fn inherit(self, relay: &TenantQuotas) -> Self {
        Self {
            events_per_second: self.events_per_second.or(relay.events_per_second),
            events_burst: self.events_burst.or(relay.events_burst),
            events_per_day: self.events_per_day.or(relay.events_per_day),
            backlog_max: self.backlog_max.or(relay.backlog_max),
            endpoints_max: self.endpoints_max.or(relay.endpoints_max),
            event_bytes_max: self.event_bytes_max.or(relay.event_bytes_max),
            ..self
        }
    }
}

/// Parses a stored JSON value.
pub(super) fn parse<T: DeserializeOwned>(stored: &str) -> Result<T, StoreError> {
    serde_json::from_str(stored)
        .map_err(|error| StoreError::Corrupt(format!("a stored setting is not readable: {error}")))
}

/// Writes a JSON value.
pub(super) fn write<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_patch_changes_its_members_and_refuses_unknown_ones() {
        let patch = |text: &str, policy: &mut EndpointPolicy| {
            PolicyChange::Patch(serde_json::from_str(text).unwrap()).apply(policy)
        };
        let mut policy = EndpointPolicy { rate: NonZeroU32::new(5), ..EndpointPolicy::default() };
        patch("{}", &mut policy).unwrap();
        assert_eq!(policy.rate, NonZeroU32::new(5));
        for refused in [r#"{"rate":0}"#, r#"{"rates":1}"#, r#"{"rates":null}"#, r#"{"rate":"5"}"#] {
            assert!(matches!(patch(refused, &mut policy), Err(StoreError::Invalid(_))), "{refused}");
        }
        assert_eq!(policy.rate, NonZeroU32::new(5));
        patch(r#"{"rate":null}"#, &mut policy).unwrap();
        assert_eq!(policy, EndpointPolicy::default());
    }

    #[test]
    fn texts_patch_sets_and_removes_names() {
        let mut texts = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let patch = [("a".to_owned(), None), ("c".to_owned(), Some("3".to_owned()))];
        TextsChange::Patch(patch.into()).apply(&mut texts);
        assert_eq!(
            texts,
            BTreeMap::from([("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())])
        );
    }
}
