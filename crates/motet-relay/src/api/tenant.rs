//! The tenant of a request.

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRef, FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use motet::middleware::Next;

use super::ApiState;
use super::auth::Principal;
use super::problem::Problem;
use crate::store::TenantSeq;

/// The value of `?tenant=` that selects all tenants.
const ALL: &str = "*";

/// The tenant that a request works on: the one in its path, or the tenant of a request that names none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant {
    pub(super) seq: TenantSeq,
    /// `true` if the path names the tenant.
    is_named: bool,
    /// The only tenant that the sender may name, if there is one.
    within: Option<TenantSeq>,
}

/// Returns the only tenant that the sender of a request may name, if there is one.
fn tenant_of(request: &Parts) -> Result<Option<TenantSeq>, Problem> {
    request.extensions.get::<Principal>().map(Principal::tenant).ok_or_else(Problem::unauthenticated)
}

impl Tenant {
    /// Returns the tenant of a list, or `None` for the rows of all tenants. `wanted` is the request's `?tenant=`.
    pub(super) fn of_list(self, api: &ApiState, wanted: Option<&str>) -> Result<Option<TenantSeq>, Problem> {
        match wanted {
            None => Ok(Some(self.seq)),
            Some(_) if self.is_named => {
                Err(Problem::invalid("the path names the tenant; leave the parameter 'tenant' out"))
            }
            Some(ALL) if self.within.is_none() => Ok(None),
            Some(ALL) => Err(Problem::needs_all_tenants()),
            Some(id) => find_within(api, id, self.within).map(Some),
        }
    }
}

impl<S> FromRequestParts<S> for Tenant
where
    S: Send + Sync,
    Arc<ApiState>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let within = tenant_of(parts)?;
        match path_param(parts, state, "tenant").await? {
            Some(id) => {
                let seq = find_within(&Arc::from_ref(state), &id, within)?;
                Ok(Self { seq, is_named: true, within })
            }
            None => Ok(Self { seq: within.unwrap_or(TenantSeq::DEFAULT), is_named: false, within }),
        }
    }
}

/// Returns the tenant with this id. For a sender that may name one tenant only, the other tenants do not exist.
pub(super) fn find_within(api: &ApiState, id: &str, within: Option<TenantSeq>) -> Result<TenantSeq, Problem> {
    let found = api.store.tenant_names().find(id);
    let found = found.filter(|found| within.is_none_or(|within| within == *found));
    found.ok_or_else(|| Problem::not_found("tenant", id))
}

/// Middleware of the routes with a tenant in the path: a sender that may name another tenant only gets the response for a
/// tenant that does not exist, whatever its scopes.
pub(super) async fn hide_other_tenants(
    api: Arc<ApiState>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match check_tenant(&api, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

async fn check_tenant(api: &ApiState, parts: &mut Parts) -> Result<(), Problem> {
    let Some(within) = tenant_of(parts)? else { return Ok(()) };
    match path_param(parts, &(), "tenant").await? {
        Some(id) => find_within(api, &id, Some(within)).map(drop),
        None => Ok(()),
    }
}

/// Returns the id of the tenant of a row; `None` if the tenant was deleted.
pub(super) fn id_of(api: &ApiState, tenant: TenantSeq) -> Option<Arc<str>> {
    api.store.tenant_names().id_of(tenant)
}

/// Returns a parameter of the path by its name.
pub(super) async fn path_param<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<Option<String>, Problem> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|error: RawPathParamsRejection| Problem::invalid(error.body_text()))?;
    Ok(params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()))
}
