//! `/api/v1/event-type`: the catalogue of event types.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::SvixError;
use super::extract::{Body, Query, TypeName};
use super::views::{EventTypeView, List};
use crate::api::ApiState;
use crate::api::patch::Patch;
use crate::pattern::EventType;
use crate::store::{EventTypeChange, EventTypePut, EventTypeRow, EventTypeWrite};

/// An event type to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EventTypeIn {
    name: String,
    #[serde(default)]
    description: String,
    schemas: Option<Value>,
    group_name: Option<String>,
    archived: Option<bool>,
    deprecated: Option<bool>,
    /// Refused: relay has no feature flags.
    feature_flag: Option<String>,
    /// Refused unless it is empty.
    feature_flags: Option<Vec<String>>,
}

/// The fields of an event type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EventTypeUpdate {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    schemas: Patch<Value>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    group_name: Patch<String>,
    archived: Option<bool>,
    deprecated: Option<bool>,
    /// Refused: relay has no feature flags.
    feature_flag: Option<String>,
    /// Refused unless it is empty.
    feature_flags: Option<Vec<String>>,
}

fn check_flags(flag: Option<&String>, flags: Option<&Vec<String>>) -> Result<(), SvixError> {
    let message = "relay has no feature flags";
    if flag.is_some() {
        return Err(SvixError::body("featureFlag", message));
    }
    if flags.is_some_and(|flags| !flags.is_empty()) {
        return Err(SvixError::body("featureFlags", message));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SvixError> {
    EventType::parse(name).map_err(|error| SvixError::body("name", format!("name: {name:?} {error}")))?;
    Ok(())
}

impl EventTypeUpdate {
    fn change(self) -> Result<EventTypeChange, SvixError> {
        check_flags(self.feature_flag.as_ref(), self.feature_flags.as_ref())?;
        Ok(EventTypeChange {
            description: self.description,
            schemas: member(self.schemas),
            group_name: member(self.group_name),
            is_archived: self.archived,
            is_deprecated: self.deprecated,
        })
    }
}

fn member<T>(patch: Patch<T>) -> Option<Option<T>> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(value) => Some(Some(value)),
    }
}

fn unknown(name: &str) -> SvixError {
    SvixError::not_found("event type", name)
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    Body(new): Body<EventTypeIn>,
) -> Result<(StatusCode, Json<EventTypeView>), SvixError> {
    check_name(&new.name)?;
    check_flags(new.feature_flag.as_ref(), new.feature_flags.as_ref())?;
    let change = EventTypeChange {
        description: Some(new.description),
        schemas: Some(new.schemas),
        group_name: Some(new.group_name),
        is_archived: new.archived,
        is_deprecated: new.deprecated,
    };
    match api.store.write_event_type(new.name.clone(), change, EventTypeWrite::Create).await? {
        EventTypePut::Created(row) | EventTypePut::Updated(row) => {
            Ok((StatusCode::CREATED, Json(EventTypeView::new(row, true))))
        }
        EventTypePut::Exists => {
            Err(SvixError::conflict(format!("there is an event type {:?} already", new.name)))
        }
        EventTypePut::Missing => Err(unknown(&new.name)),
    }
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    mut query: Query,
) -> Result<Json<List<EventTypeView>>, SvixError> {
    let with_archived = query.flag("include_archived", false)?;
    let with_content = query.flag("with_content", false)?;
    let is_descending = query.is_descending(false)?;
    let limit = query.limit()?;
    let iterator = query.text("iterator");
    query.finish()?;
    let (is_back, from) = match iterator {
        None => (false, None),
        Some(text) => match text.strip_prefix('-') {
            Some(name) => (true, Some(name.to_owned())),
            None => (false, Some(text)),
        },
    };
    let found = api.store.event_types(from, is_descending != is_back, with_archived, limit + 1);
    let mut rows = found.await?;
    let is_done = rows.len() <= limit;
    rows.truncate(limit);
    if is_back {
        rows.reverse();
    }
    let view = |row: EventTypeRow| (row.name.clone(), EventTypeView::new(row, with_content));
    Ok(Json(List::new(rows.into_iter().map(view).collect(), is_done)))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    TypeName(name): TypeName,
) -> Result<Json<EventTypeView>, SvixError> {
    let row = api.store.event_type(name.clone()).await?.ok_or_else(|| unknown(&name))?;
    Ok(Json(EventTypeView::new(row, true)))
}

pub(super) async fn put(
    State(api): State<Arc<ApiState>>,
    TypeName(name): TypeName,
    Body(update): Body<EventTypeUpdate>,
) -> Result<(StatusCode, Json<EventTypeView>), SvixError> {
    check_name(&name)?;
    match api.store.write_event_type(name.clone(), update.change()?, EventTypeWrite::Put).await? {
        EventTypePut::Created(row) => Ok((StatusCode::CREATED, Json(EventTypeView::new(row, true)))),
        EventTypePut::Updated(row) => Ok((StatusCode::OK, Json(EventTypeView::new(row, true)))),
        EventTypePut::Exists | EventTypePut::Missing => Err(unknown(&name)),
    }
}

pub(super) async fn patch(
    State(api): State<Arc<ApiState>>,
    TypeName(name): TypeName,
    Body(update): Body<EventTypeUpdate>,
) -> Result<Json<EventTypeView>, SvixError> {
    match api.store.write_event_type(name.clone(), update.change()?, EventTypeWrite::Patch).await? {
        EventTypePut::Created(row) | EventTypePut::Updated(row) => Ok(Json(EventTypeView::new(row, true))),
        EventTypePut::Exists | EventTypePut::Missing => Err(unknown(&name)),
    }
}

/// Archives the event type, or removes it with `?expunge=true`.
pub(super) async fn delete(
    State(api): State<Arc<ApiState>>,
    TypeName(name): TypeName,
    mut query: Query,
) -> Result<StatusCode, SvixError> {
    let expunge = query.flag("expunge", false)?;
    query.finish()?;
    let found = if expunge {
        api.store.remove_event_type(name.clone()).await?
    } else {
        let archived = EventTypeChange { is_archived: Some(true), ..EventTypeChange::default() };
        let written = api.store.write_event_type(name.clone(), archived, EventTypeWrite::Patch).await?;
        matches!(written, EventTypePut::Updated(_))
    };
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&name)) }
}
