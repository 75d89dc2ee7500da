//! The tenant of a request.

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use http::request::Parts;

use super::ApiState;
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
}

/// Returns the tenant of a request that names none.
fn tenant_of(_request: &Parts) -> TenantSeq {
    TenantSeq::DEFAULT
}

impl Tenant {
    /// Returns the tenant of a list, or `None` for the rows of all tenants. `wanted` is the request's `?tenant=`.
    pub(super) fn of_list(self, api: &ApiState, wanted: Option<&str>) -> Result<Option<TenantSeq>, Problem> {
        match wanted {
            None => Ok(Some(self.seq)),
            Some(_) if self.is_named => {
                Err(Problem::invalid("the path names the tenant; leave the parameter 'tenant' out"))
            }
            Some(ALL) => Ok(None),
            Some(id) => find(api, id).map(Some),
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
        match path_param(parts, state, "tenant").await? {
            Some(id) => Ok(Self { seq: find(&Arc::from_ref(state), &id)?, is_named: true }),
            None => Ok(Self { seq: tenant_of(parts), is_named: false }),
        }
    }
}

/// Returns the tenant with this id.
pub(super) fn find(api: &ApiState, id: &str) -> Result<TenantSeq, Problem> {
    api.store.tenant_names().find(id).ok_or_else(|| Problem::not_found("tenant", id))
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
