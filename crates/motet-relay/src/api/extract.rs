//! Extractors, which reject a request as a [`Problem`].

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiState;
use super::body::{MAX_JSON_BYTES, media_type, parse_json, read};
use super::problem::Problem;
use super::tenant::path_param;

/// A JSON body, read completely.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<ApiState>) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        if media_type(&head.headers).as_deref() != Some("application/json") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send JSON, with 'Content-Type: application/json'",
            ));
        }
        let mut reserved = api.memory.for_request(&head.extensions);
        parse_json(&read(body, MAX_JSON_BYTES, &mut reserved).await?).map(Self)
    }
}

/// The query string.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S, T> FromRequestParts<S> for Params<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(params) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error: QueryRejection| Problem::invalid(error.body_text()))?;
        Ok(Self(params))
    }
}

/// The `{tenant}` of the path as text, whether the tenant exists or not.
#[derive(Debug)]
pub(super) struct TenantId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for TenantId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = path_param(parts, state, "tenant").await?;
        id.map(Self).ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay: the route names no tenant")
        })
    }
}

/// The `{id}` of the path.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = path_param(parts, state, "id").await?;
        id.map(Self).ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay: the route has no id")
        })
    }
}
