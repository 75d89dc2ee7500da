//! Request bodies, limited in size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::memory::ByteReservation;
use super::problem::Problem;

/// Maximum size of the data of one event.
pub(super) const MAX_DATA_BYTES: usize = 256 << 10;

/// Maximum size of a JSON body with one event or any other single object.
pub(super) const MAX_JSON_BYTES: usize = MAX_DATA_BYTES + (16 << 10);

/// A client must send its body within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the body is not the expected JSON: {error}")))
}

/// Reads a body to its end, and adds its size to `reserved`.
pub(super) async fn read(body: Body, limit: usize, reserved: &mut ByteReservation) -> Result<Bytes, Problem> {
    match timeout(BODY_TIMEOUT, read_on(body, limit, reserved)).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not sent within {} s", BODY_TIMEOUT.as_secs()),
        )),
        Ok(read) => read,
    }
}

async fn read_on(mut body: Body, limit: usize, reserved: &mut ByteReservation) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the body ended early: {error}")))?;
        // Trailers have no meaning here.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {limit} bytes"),
            ));
        }
        if !reserved.grow(data.len()) {
            return Err(Problem::unavailable(
                "relay is reading too many request bodies at once; nothing was stored; try again",
            ));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Returns the media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}
