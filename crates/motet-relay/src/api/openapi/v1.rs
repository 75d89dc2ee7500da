//! The texts of the operations under `/v1`.

use serde_json::json;

use super::{ApiDocument, Operation, problem};
use crate::api::events::{LineAnswer, NDJSON, PublishRequest, PublishResponse};
use crate::api::replays::{PlanView, ReplayView};

/// The document of `/v1`.
pub(in crate::api) const API: ApiDocument = ApiDocument {
    title: "motet relay",
    description: "relay stores events and delivers them to HTTP endpoints, signed as in [Standard Webhooks]\
        (https://www.standardwebhooks.com), until each endpoint has accepted them.\n\n\
        Every operation on the resources of a tenant exists twice: with the tenant in the path, as \
        `/v1/tenants/{tenant}/..`, and without it. The short form uses the tenant of the key, or the tenant `default` \
        for a key of all tenants.\n\n\
        Lists are read page by page, newest first: send the `next_cursor` of a page as `cursor` to get the next one. \
        Times are in UTC, as in RFC 3339. Bodies with fields that are not in this document are refused. Responses may \
        get more fields in later versions.",
    prefix: "/v1",
    error_type: "application/problem+json",
    error: problem,
    has_field_errors: false,
    tags: &[
        ("events", "Messages that are published, with a type and data."),
        ("endpoints", "URLs that get events."),
        ("deliveries", "Events for one endpoint, with their attempts."),
        ("dead-letters", "Deliveries that failed for good."),
        ("replays", "Jobs that send past events again."),
        ("erasures", "Erasures of many events."),
        ("tenants", "Owners of endpoints and events, which see no resource of another tenant."),
        ("keys", "API keys."),
        ("backups", "Copies of the whole store."),
        ("relay", "The whole relay."),
    ],
    path_parameter: |tag, name| match (name, tag) {
        ("tenant", _) => "The id of the tenant.",
        (_, "events") => "The id of the event.",
        (_, "endpoints") => "The id of the endpoint.",
        (_, "deliveries") => "The id of the delivery.",
        (_, "replays") => "The id of the replay.",
        (_, "erasures") => "The id of the erasure.",
        (_, "backups") => "The name of the backup.",
        (_, "keys") => "The id of the API key.",
        _ => "The id of the resource.",
    },
};

pub(in crate::api) fn publish() -> Operation {
    const REPLAYED: &str = "`true` if an event was published under the same idempotency key before. That event is \
        returned, and nothing is stored.";
    let operation = Operation::new("publish_event", "Publish an event, or many")
        .text(
            "The event is on disk before relay responds. A body of type `application/x-ndjson` has an event in each \
             line, at most 10 000 lines and 16 MiB; the response then has a line for each line of the body, with the \
             status that a request with that line alone would have. Its own status is the status of all lines if they \
             are equal, and 207 otherwise.",
        )
        .request_header(
            "idempotency-key",
            "The idempotency key of a single event; the same as `idempotency_key` in the body.",
            json!({"type": "string", "minLength": 1, "maxLength": 255}),
        )
        .body::<PublishRequest>()
        .body_of_lines(NDJSON, "{\"type\":\"a.b\",\"data\":1}\n{\"type\":\"a.c\",\"data\":{\"n\":2}}\n")
        .answer(202, "The event is stored, or was stored under the same idempotency key.")
        .content::<PublishResponse>(202, "application/json")
        .header(202, "idempotent-replayed", REPLAYED)
        .answer(207, "The lines of the body have different statuses.")
        .answer(409, "The idempotency key or the uid belongs to another event.")
        .answer(429, "A quota of the tenant is exceeded. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.");
    [202, 207, 400, 409, 413, 429, 500, 503]
        .into_iter()
        .fold(operation, |operation, status| operation.lines::<LineAnswer>(status, NDJSON))
}

pub(in crate::api) fn list_events() -> Operation {
    Operation::new("list_events", "List events")
        .text("The data of events is shown to keys with the scope `read_payload`.")
        .answer(200, "A page of events.")
        .answer(404, "The tenant does not exist.")
}

pub(in crate::api) fn follow_events() -> Operation {
    Operation::new("follow_events", "Follow new events")
        .text(
            "Returns new events as server-sent events, each in the form of `GET /v1/events/{id}`, until the client \
             disconnects. A client that reconnects sends the id of the last event as `Last-Event-ID`, and gets the \
             events after it.",
        )
        .request_header(
            "Last-Event-ID",
            "The id of the event after which the feed continues. Without it, only new events are sent.",
            json!({"type": "string"}),
        )
        .answer(200, "The events.")
        .text_content(200, "text/event-stream")
        .answer(404, "The tenant does not exist.")
        .answer(410, "The event of the `Last-Event-ID` is not stored any more, so events after it may be missing.")
}

pub(in crate::api) fn read_event() -> Operation {
    Operation::new("read_event", "Read an event")
        .text("Its data is shown to keys with the scope `read_payload`.")
        .answer(200, "The event.")
}

pub(in crate::api) fn erase_event() -> Operation {
    Operation::new("erase_event", "Erase the data of an event")
        .text(
            "The data, the uid and the responses to its attempts are erased, also in the files of the store. The event stays \
             in lists. Its pending deliveries are skipped.",
        )
        .answer(204, "The data is erased.")
}

pub(in crate::api) fn erase_events() -> Operation {
    Operation::new("erase_events", "Erase the data of all events")
        .text(
            "Erases the data, the uids and the responses to the attempts of all events that the tenant has now. Pending \
             deliveries are skipped. The erasure continues after a restart of relay.",
        )
        .answer(202, "The erasure that has begun, or that is running already.")
        .answer(404, "The tenant does not exist.")
}

pub(in crate::api) fn read_erasure() -> Operation {
    Operation::new("read_erasure", "Read an erasure with its progress").answer(200, "The erasure.")
}

pub(in crate::api) fn create_endpoint() -> Operation {
    Operation::new("create_endpoint", "Create an endpoint")
        .text("The response shows the signing secret of the endpoint.")
        .answer(201, "The endpoint.")
        .answer(
            409,
            "An endpoint of the tenant has this uid, or the tenant has its maximum number of endpoints.",
        )
}

pub(in crate::api) fn list_endpoints() -> Operation {
    Operation::new("list_endpoints", "List endpoints")
        .answer(200, "A page of endpoints, without their secrets.")
        .answer(404, "The tenant does not exist.")
}

pub(in crate::api) fn read_endpoint() -> Operation {
    Operation::new("read_endpoint", "Read an endpoint")
        .text("Its secret is shown to keys with the scope `secrets`.")
        .answer(200, "The endpoint.")
}

pub(in crate::api) fn update_endpoint() -> Operation {
    Operation::new("update_endpoint", "Change an endpoint")
        .text(
            "The body is a merge patch (RFC 7396): a field that is absent stays as it is, and `null` sets a field to \
             its default. A new `secret` needs a key with the scope `secrets`.",
        )
        .answer(200, "The endpoint after the change.")
        .answer(409, "Another endpoint of the tenant has this uid.")
}

pub(in crate::api) fn delete_endpoint() -> Operation {
    Operation::new("delete_endpoint", "Delete an endpoint")
        .text("Its pending deliveries become dead letters, which can still be read.")
        .answer(204, "The endpoint is deleted.")
}

pub(in crate::api) fn pause_endpoint() -> Operation {
    Operation::new("pause_endpoint", "Pause an endpoint")
        .text("No attempt begins until the endpoint is resumed. Deliveries wait.")
        .answer(204, "The endpoint is paused.")
}

pub(in crate::api) fn resume_endpoint() -> Operation {
    Operation::new("resume_endpoint", "Resume an endpoint")
        .answer(204, "The endpoint is not paused any more.")
        .answer(409, "The endpoint was paused with a key of all tenants, and is resumed with one.")
}

pub(in crate::api) fn read_secret() -> Operation {
    Operation::new("read_secret", "Read the signing secret of an endpoint").answer(200, "The secret.")
}

pub(in crate::api) fn rotate_secret() -> Operation {
    Operation::new("rotate_secret", "Replace the signing secret of an endpoint")
        .text("Deliveries are also signed with the replaced secret for the overlap.")
        .answer(200, "The new secret.")
}

pub(in crate::api) fn list_deliveries() -> Operation {
    Operation::new("list_deliveries", "List deliveries")
        .answer(200, "A page of deliveries.")
        .answer(404, "The tenant, the event or the endpoint does not exist.")
}

pub(in crate::api) fn read_delivery() -> Operation {
    Operation::new("read_delivery", "Read a delivery with its attempts")
        .text("The responses of the receiver are shown to keys with the scope `read_payload`.")
        .answer(200, "The delivery.")
}

pub(in crate::api) fn resend() -> Operation {
    Operation::new("resend_delivery", "Send a delivery again")
        .text("The delivery becomes pending, in whatever state it was.")
        .answer(202, "The delivery is pending.")
        .answer(409, "The endpoint of the delivery is deleted, or the data of the event was erased.")
        .answer(429, "The rate or the backlog of the tenant is exceeded. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.")
}

pub(in crate::api) fn list_dead() -> Operation {
    Operation::new("list_dead_letters", "List dead letters")
        .answer(200, "A page of deliveries that failed for good.")
        .answer(404, "The tenant or the endpoint does not exist.")
}

pub(in crate::api) fn redrive() -> Operation {
    Operation::new("redrive_dead_letters", "Send dead letters again")
        .text("Makes a limited number of dead letters pending. Repeat the request while `more` is `true`.")
        .answer(202, "The dead letters are pending.")
        .answer(404, "The tenant or the endpoint does not exist.")
        .answer(429, "The rate or the backlog of the tenant admits no dead letter. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.")
}

pub(in crate::api) fn create_replay() -> Operation {
    Operation::new("create_replay", "Send past events again")
        .text(
            "A replay uses at most a fifth of the rate or of the slots of an endpoint, and continues after a restart \
             of relay. With `dry_run=true` the response is the plan, and nothing is sent.",
        )
        .answer(200, "The plan.")
        .content::<PlanView>(200, "application/json")
        .answer(202, "The replay.")
        .content::<ReplayView>(202, "application/json")
        .answer(404, "The tenant or the endpoint does not exist.")
        .answer(409, "The tenant has its maximum number of replays that run.")
}

pub(in crate::api) fn list_replays() -> Operation {
    Operation::new("list_replays", "List replays")
        .answer(200, "A page of replays.")
        .answer(404, "The tenant does not exist.")
}

pub(in crate::api) fn read_replay() -> Operation {
    Operation::new("read_replay", "Read a replay with its progress").answer(200, "The replay.")
}

pub(in crate::api) fn cancel_replay() -> Operation {
    Operation::new("cancel_replay", "Cancel a replay")
        .text("Deliveries that the replay has made pending stay pending.")
        .answer(200, "The replay, which is cancelled.")
        .answer(409, "The replay has ended already.")
}

pub(in crate::api) fn list_tenants() -> Operation {
    Operation::new("list_tenants", "List tenants").answer(200, "A page of tenants.")
}

pub(in crate::api) fn read_tenant() -> Operation {
    Operation::new("read_tenant", "Read a tenant").answer(200, "The tenant.")
}

pub(in crate::api) fn put_tenant() -> Operation {
    Operation::new("put_tenant", "Create a tenant, or replace its fields")
        .text("An id has 1 to 64 characters of `[A-Za-z0-9_.-]`, and does not begin with `_`.")
        .answer(200, "The fields of the tenant are replaced.")
        .answer(201, "The tenant is created.")
}

pub(in crate::api) fn update_tenant() -> Operation {
    Operation::new("update_tenant", "Change a tenant")
        .text(
            "The body is a merge patch (RFC 7396): a field that is absent stays as it is, and `null` sets a field to \
             its default.",
        )
        .answer(200, "The tenant after the change.")
}

pub(in crate::api) fn delete_tenant() -> Operation {
    Operation::new("delete_tenant", "Delete a tenant")
        .text(
            "The tenant disappears for readers at once, with its endpoints, events and keys. Its pending deliveries \
             end; the response has their number. The id can be used again. The rows are then erased in small steps; \
             `erasure_id` names their erasure.",
        )
        .answer(200, "The tenant is deleted.")
        .answer(409, "The tenant `default` cannot be deleted.")
}

pub(in crate::api) fn pause_tenant() -> Operation {
    Operation::new("pause_tenant", "Pause a tenant")
        .text("No attempt for the tenant begins until it is resumed. Deliveries wait.")
        .answer(204, "The tenant is paused.")
}

pub(in crate::api) fn resume_tenant() -> Operation {
    Operation::new("resume_tenant", "Resume a tenant").answer(204, "The tenant is not paused any more.")
}

pub(in crate::api) fn create_key() -> Operation {
    Operation::new("create_key", "Create an API key")
        .text("The response is the only one that shows the key.")
        .answer(201, "The key.")
        .answer(404, "The tenant does not exist.")
        .answer(409, "The tenant has its maximum number of valid keys.")
}

pub(in crate::api) fn list_keys() -> Operation {
    Operation::new("list_keys", "List API keys")
        .text("Keys that are revoked or expired are in the list.")
        .answer(200, "A page of keys.")
        .answer(404, "The tenant does not exist.")
}

pub(in crate::api) fn revoke_key() -> Operation {
    Operation::new("revoke_key", "Revoke an API key")
        .answer(204, "The key is revoked.")
        .answer(409, "It is the last valid key with the scope `admin` for all tenants.")
}

pub(in crate::api) fn read_retention() -> Operation {
    Operation::new("read_retention", "Read what retention would delete now")
        .text(
            "Nothing is deleted by this request. The query replaces settings of relay, to see what other settings would \
             delete. The plan looks at a limited number of events.",
        )
        .answer(200, "The settings, and the number of events that are due.")
}

pub(in crate::api) fn create_backup() -> Operation {
    Operation::new("create_backup", "Make a backup")
        .text(
            "The backup is made while relay runs, in the directory of backups. It has every event that was accepted before \
             this request. `GET /v1/backups/{id}` shows its progress and its result.",
        )
        .answer(202, "The backup has begun.")
        .answer(409, "A backup is running already.")
}

pub(in crate::api) fn list_backups() -> Operation {
    Operation::new("list_backups", "List backups")
        .text(
            "The files in the directory of backups, the backup in progress, and the latest one if it failed.",
        )
        .answer(200, "All backups, newest first.")
}

pub(in crate::api) fn read_backup() -> Operation {
    Operation::new("read_backup", "Read a backup").answer(200, "The backup.")
}

pub(in crate::api) fn start_rekey() -> Operation {
    Operation::new("start_rekey", "Encrypt all secrets with the first key of the key file")
        .text(
            "relay reads its key file again, and encrypts each stored secret with the first key of the file, while it \
             serves. A request that is repeated begins again, and leaves the secrets alone that the first key encrypts.",
        )
        .answer(202, "The change of keys has begun.")
        .answer(409, "The key file cannot be used, or does not have a key that is in use.")
}

pub(in crate::api) fn read_rekey() -> Operation {
    Operation::new("read_rekey", "Read how far a change of keys is").answer(200, "The change of keys.")
}

pub(in crate::api) fn pause_all() -> Operation {
    Operation::new("pause_all", "Pause all deliveries")
        .text("No attempt begins until relay is resumed. Deliveries wait.")
        .answer(204, "All deliveries are paused.")
}

pub(in crate::api) fn resume_all() -> Operation {
    Operation::new("resume_all", "Resume all deliveries")
        .text("Tenants and endpoints that are paused themselves stay paused.")
        .answer(204, "Deliveries are not paused any more.")
}
