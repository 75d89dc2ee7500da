//! `motet-relay erase`

use std::io;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use tokio::time::sleep;

use super::{CommandError, Control, in_scope, parse};
use crate::cli::{EraseAction, EraseArgs};

/// How often the progress of an erasure is read.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
struct ShownErasure {
    id: String,
    state: String,
    events: u64,
}

#[derive(Debug, Deserialize)]
struct DeletedTenant {
    erasure_id: String,
}

/// Runs `motet-relay erase`, and passes its progress to `show`. The caller has asked for a confirmation.
///
/// # Cancel safety
/// If the future is dropped before it is ready, an erasure that has begun continues while relay runs, and at its next start.
///
/// # Errors
/// [`CommandError`].
pub async fn run_erase_command(
    args: &EraseArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    in_scope(async |n| {
        let control = Control::open(n, args.control().target()?).await?;
        match args.action() {
            EraseAction::Event(event) => {
                let path =
                    format!("/v1/tenants/{}/events/{}/data", segment(&event.tenant), segment(&event.id));
                control.request(Method::DELETE, &path, &[], None).await?;
                show(&format!("the data of {} is erased\n", event.id)).map_err(CommandError::Output)
            }
            EraseAction::Payloads(payloads) => {
                let path = format!("/v1/tenants/{}/events/erase", segment(&payloads.tenant));
                let begun: ShownErasure = parse(&control.request(Method::POST, &path, &[], None).await?)?;
                follow(&control, &begun.id, &mut show).await
            }
            EraseAction::Tenant(tenant) => {
                let path = format!("/v1/tenants/{}", segment(&tenant.id));
                let deleted: DeletedTenant =
                    parse(&control.request(Method::DELETE, &path, &[], None).await?)?;
                follow(&control, &deleted.erasure_id, &mut show).await
            }
        }
    })
    .await
}

/// Waits until an erasure has finished.
async fn follow(
    control: &Control,
    id: &str,
    show: &mut impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let mut shown = None;
    loop {
        let path = format!("/v1/erasures/{id}");
        let now: ShownErasure = parse(&control.request(Method::GET, &path, &[], None).await?)?;
        if now.state == "finished" {
            let text = format!("{} events are erased; no file of the store has their bytes\n", now.events);
            return show(&text).map_err(CommandError::Output);
        }
        if shown.replace(now.events) != Some(now.events) {
            show(&format!("{id}: {} events are erased so far\n", now.events))
                .map_err(CommandError::Output)?;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Encodes a part of a path.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_stays_one_segment_of_the_path() {
        assert_eq!(segment("evt_0a"), "evt_0a");
        assert_eq!(segment("../keys?é"), "..%2Fkeys%3F%C3%A9");
    }
}
