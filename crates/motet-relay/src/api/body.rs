//! Request bodies: bounded in size and time, and refused with a reason.

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

/// The data of one event.
pub(super) const MAX_DATA_BYTES: usize = 256 << 10;

/// One event with all that stands around its data, or any other single JSON body.
pub(super) const MAX_JSON_BYTES: usize = MAX_DATA_BYTES + (16 << 10);

/// A client has this long to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the JSON is not accepted: {error}")))
}

/// Reads a body to its end, and counts it in `reserved`.
pub(super) async fn read(body: Body, most: usize, reserved: &mut ByteReservation) -> Result<Bytes, Problem> {
    match timeout(BODY_DEADLINE, read_on(body, most, reserved)).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not sent within {} s", BODY_DEADLINE.as_secs()),
        )),
        Ok(read) => read,
    }
}

async fn read_on(mut body: Body, most: usize, reserved: &mut ByteReservation) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the body broke off: {error}")))?;
        // Trailers say nothing.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {most} bytes"),
            ));
        }
        if !reserved.grow(data.len()) {
            return Err(Problem::unavailable(
                "relay is reading as many bytes of other requests as it may; nothing was stored; try again",
            ));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}
