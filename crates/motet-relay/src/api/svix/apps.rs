//! `/api/v1/app`: an application is a tenant, and its uid is the id of the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{SvixError, in_field};
use super::extract::{App, AppName, AppTarget, Body, IdempotencyKey, Query};
use super::views::{self, ApplicationView, List};
use crate::access::KeyScope;
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::names::{check_metadata, check_uid};
use crate::api::patch::Patch;
use crate::ids::{IdKind, Ids};
use crate::store::{
    HeaderPrefix, Merge, NewTenant, OnceKey, OnceKind, RequestBody, TenantChange, TenantPolicy, TenantRow,
    TenantSeq,
};

const MAX_NAME_CHARACTERS: usize = 256;

/// An application to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ApplicationIn {
    name: String,
    uid: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    /// Refused: endpoints have rates, applications do not.
    rate_limit: Option<u64>,
    /// Refused, like `rateLimit`.
    throttle_rate: Option<u64>,
}

/// A change of an application: a field that is absent stays, and `null` clears a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ApplicationPatch {
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    uid: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Patch<BTreeMap<String, String>>,
    /// Refused: endpoints have rates, applications do not.
    rate_limit: Option<u64>,
    /// Refused, like `rateLimit`.
    throttle_rate: Option<u64>,
}

/// The request profile of tenants that are created here: the one of Svix.
fn policy() -> TenantPolicy {
    TenantPolicy {
        body: Some(RequestBody::Data),
        header_prefix: Some(HeaderPrefix::Svix),
        ..TenantPolicy::default()
    }
}

impl ApplicationIn {
    pub(super) fn check(&self, ids: Ids) -> Result<(), SvixError> {
        check_name(&self.name)?;
        check_rates(self.rate_limit, self.throttle_rate)?;
        if let Some(uid) = &self.uid {
            check_app_uid(ids, uid)?;
        }
        check_metadata(self.metadata.iter().flatten().map(|(name, value)| (name, Some(value))))
            .map_err(in_field("metadata"))
    }

    /// Creates the application. Returns `false` if there is one with its uid, which stays as it is.
    async fn create(self, api: &ApiState, once: Option<OnceKey>) -> Result<(TenantRow, bool), SvixError> {
        let metadata = self.metadata.unwrap_or_default();
        let new = NewTenant { name: self.name, metadata, policy: policy() };
        Ok(api.store.create_tenant(self.uid, new, once).await?)
    }
}

fn check_name(name: &str) -> Result<(), SvixError> {
    let characters = name.chars().count();
    if (1..=MAX_NAME_CHARACTERS).contains(&characters) {
        return Ok(());
    }
    let message = format!("name has {characters} characters; send 1 to {MAX_NAME_CHARACTERS}");
    Err(SvixError::body("name", message))
}

fn check_app_uid(ids: Ids, uid: &str) -> Result<(), SvixError> {
    check_uid(ids, uid).map_err(in_field("uid"))?;
    // Ids of tenants that relay keeps for itself, and path segments with a meaning of their own.
    if uid.starts_with('_') || uid.chars().all(|c| c == '.') {
        return Err(SvixError::body("uid", format!("the uid {uid:?} is reserved")));
    }
    Ok(())
}

fn check_rates(rate_limit: Option<u64>, throttle_rate: Option<u64>) -> Result<(), SvixError> {
    let field = match (rate_limit, throttle_rate) {
        (None, None) => return Ok(()),
        (Some(_), _) => "rateLimit",
        (None, Some(_)) => "throttleRate",
    };
    Err(SvixError::body(field, format!("relay has no {field} of an application; set it on the endpoints")))
}

/// Returns the application of a request. If there is none and `new` is given, it is created, if the sender may create
/// applications.
pub(super) async fn find_or_create(
    api: &ApiState,
    sender: &Principal,
    AppTarget { name, found }: AppTarget,
    new: Option<ApplicationIn>,
) -> Result<TenantSeq, SvixError> {
    if let Some(found) = found {
        return Ok(found);
    }
    let new = new.ok_or_else(|| SvixError::not_found("application", &name))?;
    sender.require(KeyScope::Admin)?;
    sender.require_all_tenants()?;
    new.check(api.store.ids())?;
    if new.uid.as_deref() != Some(name.as_str()) {
        let message =
            format!("the application {name:?} does not exist, and is created only if it has this uid");
        return Err(SvixError::body("application", message));
    }
    // If another request has just created it, that application is the one.
    Ok(new.create(api, None).await?.0.seq)
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    mut query: Query,
    key: IdempotencyKey,
    Body(new): Body<ApplicationIn>,
) -> Result<(StatusCode, Json<ApplicationView>), SvixError> {
    let get_if_exists = query.flag("get_if_exists", false)?;
    query.finish()?;
    new.check(api.store.ids())?;
    let (row, is_new) = new.create(&api, key.once(OnceKind::Tenant, "")).await?;
    if !is_new && !get_if_exists {
        return Err(SvixError::conflict(format!(
            "there is an application with the uid {:?} already",
            row.id
        )));
    }
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ApplicationView::new(&api.store, row))))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    mut query: Query,
) -> Result<Json<List<ApplicationView>>, SvixError> {
    let ids = api.store.ids();
    let is_descending = query.is_descending(false)?;
    let page = query.page(is_descending, |id| ids.parse(IdKind::Tenant, id))?;
    query.finish()?;
    let (rows, is_done) = page.cut(api.store.tenants_of_page(page.walk).await?);
    let view =
        |row: TenantRow| (views::id_of_app(&api.store, row.seq), ApplicationView::new(&api.store, row));
    Ok(Json(List::new(rows.into_iter().map(view).collect(), is_done)))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    AppName(name): AppName,
) -> Result<Json<ApplicationView>, SvixError> {
    let found = views::read_application(&api, app).await?;
    found.map(Json).ok_or_else(|| SvixError::not_found("application", &name))
}

pub(super) async fn put(
    State(api): State<Arc<ApiState>>,
    AppTarget { name, found }: AppTarget,
    Body(mut new): Body<ApplicationIn>,
) -> Result<(StatusCode, Json<ApplicationView>), SvixError> {
    new.check(api.store.ids())?;
    let Some(app) = found else {
        if new.uid.is_none() {
            check_app_uid(api.store.ids(), &name)?;
            new.uid = Some(name);
        }
        let (row, is_new) = new.create(&api, None).await?;
        if !is_new {
            let detail = format!("there is an application with the uid {:?} already", row.id);
            return Err(SvixError::conflict(detail));
        }
        return Ok((StatusCode::CREATED, Json(ApplicationView::new(&api.store, row))));
    };
    let change = TenantChange {
        id: id_of_uid(&api, app, new.uid),
        name: Some(new.name),
        metadata: Some(Merge::Replace(new.metadata.unwrap_or_default())),
        policy: None,
    };
    let row = api.store.update_tenant(app, change).await?;
    let row = row.ok_or_else(|| SvixError::not_found("application", &name))?;
    Ok((StatusCode::OK, Json(ApplicationView::new(&api.store, row))))
}

pub(super) async fn patch(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    AppName(name): AppName,
    Body(patch): Body<ApplicationPatch>,
) -> Result<Json<ApplicationView>, SvixError> {
    check_rates(patch.rate_limit, patch.throttle_rate)?;
    if let Some(name) = &patch.name {
        check_name(name)?;
    }
    if let Patch::Value(uid) = &patch.uid {
        check_app_uid(api.store.ids(), uid)?;
    }
    if let Patch::Value(metadata) = &patch.metadata {
        check_metadata(metadata.iter().map(|(name, value)| (name, Some(value))))
            .map_err(in_field("metadata"))?;
    }
    let id = match patch.uid {
        Patch::Absent => None,
        Patch::Null => id_of_uid(&api, app, None),
        Patch::Value(uid) => Some(uid),
    };
    let metadata = patch.metadata.or_default().map(Merge::Replace);
    let change = TenantChange { id, name: patch.name, metadata, policy: None };
    let row = api.store.update_tenant(app, change).await?;
    let row = row.ok_or_else(|| SvixError::not_found("application", &name))?;
    Ok(Json(ApplicationView::new(&api.store, row)))
}

/// Returns the id of the tenant of an application with this uid. The default tenant always has its id.
fn id_of_uid(api: &ApiState, app: TenantSeq, uid: Option<String>) -> Option<String> {
    match uid {
        None if app == TenantSeq::DEFAULT => None,
        None => Some(views::id_of_app(&api.store, app)),
        Some(uid) => Some(uid),
    }
}

pub(super) async fn delete(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    AppName(name): AppName,
) -> Result<StatusCode, SvixError> {
    if app == TenantSeq::DEFAULT {
        return Err(SvixError::conflict(format!("the application {name:?} cannot be deleted")));
    }
    let pending = api.store.delete_tenant(app).await?;
    let (pending, _erasure) = pending.ok_or_else(|| SvixError::not_found("application", &name))?;
    tracing::info!(tenant = name, pending_deliveries = pending, "a tenant was deleted");
    Ok(StatusCode::NO_CONTENT)
}
