//! Request bodies: bounded in size and time, and refused with a reason.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;

/// One event, or any other single JSON body.
pub(super) const MOST_JSON_BYTES: usize = 256 << 10;

/// A client has this long to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the JSON is not accepted: {error}")))
}

/// Reads a body to its end.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_DEADLINE, to_bytes(body, most)).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not sent within {} s", BODY_DEADLINE.as_secs()),
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let too_long =
                std::error::Error::source(&error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            Err(if too_long {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {most} bytes"))
            } else {
                Problem::invalid(format!("the body broke off: {error}"))
            })
        }
    }
}

/// The media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}
