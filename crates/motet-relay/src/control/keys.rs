//! `motet-relay key`

use std::io;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::table::{printable, table};
use super::{CommandError, Control, in_scope, json_text, parse};
use crate::cli::{CreateKeyArgs, KeyAction, KeyArgs, KeyExpiry, ListKeysArgs};

/// A key as relay shows it.
#[derive(Debug, Serialize, Deserialize)]
struct ShownKey {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    name: String,
    scopes: Vec<String>,
    tenant: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    last_used_on: Option<String>,
    revoked_at: Option<String>,
}

/// Runs `motet-relay key`, and passes its output to `show`.
///
/// # Cancel safety
/// If the future is dropped before it is ready, a new key may be valid, and a key may be revoked.
///
/// # Errors
/// [`CommandError`]. A new key that `show` fails to show is revoked.
pub async fn run_key_command(
    args: &KeyArgs,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    in_scope(async |n| {
        let control = Control::open(n, args.action().target()?).await?;
        match args.action() {
            KeyAction::Create(args) => create(&control, args, &mut show).await,
            KeyAction::List(args) => list(&control, args, &mut show).await,
            KeyAction::Revoke(args) => {
                revoke(&control, args.id()).await?;
                show(&format!("{} is revoked\n", args.id())).map_err(CommandError::Output)
            }
        }
    })
    .await
}

async fn create(
    control: &Control,
    args: &CreateKeyArgs,
    show: &mut impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let mut body = json!({"name": args.name, "scopes": args.scopes});
    if let Some(tenant) = &args.tenant {
        body["tenant"] = json!(tenant);
    }
    match &args.expires {
        None => {}
        Some(KeyExpiry::At(at)) => body["expires_at"] = json!(at),
        Some(KeyExpiry::In(seconds)) => body["expires_in"] = json!(seconds),
    }
    let created: ShownKey = parse(&control.request(Method::POST, "/v1/keys", &[], Some(&body)).await?)?;
    let text = if args.json {
        json_text(&created)?
    } else {
        format!("{}\n", created.key.as_deref().unwrap_or_default())
    };
    if let Err(error) = show(&text) {
        revoke(control, &created.id).await?;
        return Err(CommandError::NotShown(error));
    }
    Ok(())
}

async fn revoke(control: &Control, id: &str) -> Result<(), CommandError> {
    control.request(Method::DELETE, &format!("/v1/keys/{id}"), &[], None).await.map(drop)
}

async fn list(
    control: &Control,
    args: &ListKeysArgs,
    show: &mut impl FnMut(&str) -> io::Result<()>,
) -> Result<(), CommandError> {
    let query: Vec<_> = args.tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
    let keys: Vec<ShownKey> = control.list("/v1/keys", &query).await?;
    let text = if args.json { json_text(&keys)? } else { key_table(keys) };
    show(&text).map_err(CommandError::Output)
}

fn key_table(keys: Vec<ShownKey>) -> String {
    let day = |time: Option<String>| {
        time.map_or_else(String::new, |time| time.split('T').next().unwrap_or_default().to_owned())
    };
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let state = key.revoked_at.map_or("", |_| "revoked");
            [
                printable(&key.id),
                printable(&key.name),
                key.tenant.map_or_else(|| "(all)".to_owned(), |tenant| printable(&tenant)),
                printable(&key.scopes.join(",")),
                day(Some(key.created_at)),
                day(key.expires_at),
                day(key.last_used_on),
                state.to_owned(),
            ]
        })
        .collect();
    let headings = ["ID", "NAME", "TENANT", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "STATE"];
    table(headings, &rows, "there are no keys")
}
