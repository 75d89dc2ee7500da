//! The texts of the operations under `/api/v1`. Their ids are those of Svix.

use http::Method;
use serde_json::json;

use super::{ApiDocument, OpenRoute, Operation};
use crate::api::svix::{AccessIn, ErrorView, ExpireIn, MessageIn, ValidationView};

/// The document of `/api/v1`.
pub(in crate::api) const API: ApiDocument = ApiDocument {
    title: "motet relay for clients of Svix",
    description: "The API that the published clients of [Svix](https://www.svix.com) call. An application is a tenant \
        of relay, a message is an event, and an event type is an entry of a catalogue that refuses nothing.\n\n\
        A path names an application, an endpoint or a message by its id or by the id that its creator chose (`uid`, \
        `eventId`). Every path may end with a slash. A field that relay cannot obey is refused with its name; an \
        operation that relay does not have answers 501.",
    prefix: "/api/v1",
    error_type: "application/json",
    error: |signature, status| match status {
        422 => signature.refer_to::<ValidationView>(),
        _ => signature.refer_to::<ErrorView>(),
    },
    has_field_errors: true,
    tags: &[
        ("app", "Applications."),
        ("event-type", "The catalogue of event types."),
        ("endpoint", "Endpoints of an application."),
        ("msg", "Messages of an application."),
        ("attempt", "Attempts to send messages."),
        ("auth", "Sessions of the portal."),
        ("background-task", "Tasks."),
        ("health", "Health."),
    ],
    path_parameter: |_, name| match name {
        "app" => "The id or the uid of the application.",
        "endpoint" => "The id or the uid of the endpoint.",
        "msg" => "The id or the `eventId` of the message.",
        "attempt" => "The id of the attempt.",
        "name" => "The name of the event type.",
        "task" => "The id of the task.",
        _ => "The id of the resource.",
    },
};

/// Returns the routes that need no API key.
pub(in crate::api) fn open_routes() -> [OpenRoute; 2] {
    let health =
        Operation::new("v1.health.get", "Check whether relay responds").answer(204, "relay responds.");
    let logout = Operation::new("v1.authentication.logout", "End a session of the portal")
        .text("The token of the session is sent as `Authorization: Bearer rps_...`.")
        .answer(204, "The session has ended.")
        .answer(401, "The token has no session, or its session has ended.");
    [
        OpenRoute { method: Method::GET, path: "/health", operation: health },
        OpenRoute { method: Method::POST, path: "/auth/logout", operation: logout },
    ]
}

fn flag(operation: Operation, name: &str, text: &str, default: bool) -> Operation {
    operation.query(name, text, json!({"type": "boolean", "default": default}))
}

fn with_content(operation: Operation) -> Operation {
    let text = "`false` leaves payloads and responses out. They are shown to keys with the scope `read_payload` only.";
    flag(operation, "with_content", text, true)
}

fn expanded_statuses(operation: Operation) -> Operation {
    flag(operation, "expanded_statuses", "Has no effect: no attempt has the status `sending`.", false)
}

/// Adds the parameters of a page.
fn page(operation: Operation) -> Operation {
    operation
        .query("iterator", "The `iterator` or `prevIterator` of another page.", json!({"type": "string"}))
        .query(
            "limit",
            "The maximum number of items.",
            json!({"type": "integer", "minimum": 1, "maximum": 250, "default": 50}),
        )
}

fn order(operation: Operation) -> Operation {
    let schema = json!({"type": "string", "enum": ["ascending", "descending"], "default": "ascending"});
    operation.query("order", "The order of the list.", schema)
}

/// Adds the parameters that select messages.
fn of_messages(operation: Operation) -> Operation {
    operation
        .query("event_types", "Event types, separated by commas.", json!({"type": "string"}))
        .query("channel", "A channel of the messages.", json!({"type": "string"}))
        .query("tag", "A tag of the messages.", json!({"type": "string"}))
        .query("after", "Messages from this time on.", json!({"type": "string", "format": "date-time"}))
        .query("before", "Messages before this time.", json!({"type": "string", "format": "date-time"}))
}

fn status(operation: Operation) -> Operation {
    let text = "0 success, 1 pending, 2 fail, 3 sending, 4 canceled.";
    operation.query("status", text, json!({"type": "integer", "minimum": 0, "maximum": 4}))
}

/// Adds the parameters that select attempts.
fn of_attempts(operation: Operation) -> Operation {
    let class = json!({"type": "integer", "enum": [100, 200, 300, 400, 500]});
    let operation =
        status(operation).query("status_code_class", "The class of the status of the response.", class);
    let operation = flag(operation, "with_msg", "`true` adds the message of each attempt.", false);
    of_messages(with_content(expanded_statuses(operation)))
}

fn times(operation: Operation) -> Operation {
    operation
        .query(
            "since",
            "The beginning; 28 days before the end if it is absent.",
            json!({"type": "string", "format": "date-time"}),
        )
        .query("until", "The end; now if it is absent.", json!({"type": "string", "format": "date-time"}))
}

pub(in crate::api) fn list_apps() -> Operation {
    page(order(Operation::new("v1.application.list", "List applications")))
        .answer(200, "A page of applications.")
}

pub(in crate::api) fn create_app() -> Operation {
    let operation = once(Operation::new("v1.application.create", "Create an application"))
        .answer(200, "There is an application with this uid, and `get_if_exists` is `true`.")
        .answer(201, "The application.")
        .answer(409, "There is an application with this uid.");
    let text = "`true` returns the application with this uid instead of an error, if there is one.";
    flag(operation, "get_if_exists", text, false)
}

pub(in crate::api) fn read_app() -> Operation {
    Operation::new("v1.application.get", "Read an application").answer(200, "The application.")
}

pub(in crate::api) fn put_app() -> Operation {
    Operation::new("v1.application.update", "Replace an application, or create it")
        .answer(200, "The application is replaced.")
        .answer(201, "The application is created.")
        .answer(409, "Another application has this uid.")
}

pub(in crate::api) fn patch_app() -> Operation {
    Operation::new("v1.application.patch", "Change an application")
        .answer(200, "The application after the change.")
        .answer(409, "Another application has this uid.")
}

pub(in crate::api) fn delete_app() -> Operation {
    Operation::new("v1.application.delete", "Delete an application")
        .answer(204, "The application is deleted.")
        .answer(409, "The application `default` cannot be deleted.")
}

pub(in crate::api) fn list_event_types() -> Operation {
    let operation = page(order(Operation::new("v1.event-type.list", "List event types")));
    let operation = flag(operation, "include_archived", "`true` lists archived event types too.", false);
    flag(operation, "with_content", "`true` shows the schemas.", false).answer(200, "A page of event types.")
}

pub(in crate::api) fn create_event_type() -> Operation {
    Operation::new("v1.event-type.create", "Create an event type, or unarchive it")
        .answer(201, "The event type.")
        .answer(409, "There is an event type with this name.")
}

pub(in crate::api) fn read_event_type() -> Operation {
    Operation::new("v1.event-type.get", "Read an event type").answer(200, "The event type.")
}

pub(in crate::api) fn put_event_type() -> Operation {
    Operation::new("v1.event-type.update", "Replace an event type, or create it")
        .answer(200, "The event type is replaced.")
        .answer(201, "The event type is created.")
}

pub(in crate::api) fn patch_event_type() -> Operation {
    Operation::new("v1.event-type.patch", "Change an event type")
        .answer(200, "The event type after the change.")
}

pub(in crate::api) fn delete_event_type() -> Operation {
    let operation = Operation::new("v1.event-type.delete", "Archive an event type")
        .answer(204, "The event type is archived.");
    flag(operation, "expunge", "`true` removes the event type instead.", false)
}

pub(in crate::api) fn list_endpoints() -> Operation {
    page(order(Operation::new("v1.endpoint.list", "List endpoints"))).answer(200, "A page of endpoints.")
}

pub(in crate::api) fn create_endpoint() -> Operation {
    once(Operation::new("v1.endpoint.create", "Create an endpoint"))
        .answer(201, "The endpoint.")
        .answer(409, "An endpoint has this uid, or the application has its maximum number of endpoints.")
}

pub(in crate::api) fn read_endpoint() -> Operation {
    Operation::new("v1.endpoint.get", "Read an endpoint").answer(200, "The endpoint.")
}

pub(in crate::api) fn put_endpoint() -> Operation {
    Operation::new("v1.endpoint.update", "Replace an endpoint, or create it")
        .text("The secret and the headers stay unless they are sent.")
        .answer(200, "The endpoint is replaced.")
        .answer(201, "The endpoint is created.")
        .answer(409, "Another endpoint has this uid, or the application has its maximum number of endpoints.")
}

pub(in crate::api) fn patch_endpoint() -> Operation {
    Operation::new("v1.endpoint.patch", "Change an endpoint")
        .answer(200, "The endpoint after the change.")
        .answer(409, "Another endpoint has this uid.")
}

pub(in crate::api) fn delete_endpoint() -> Operation {
    Operation::new("v1.endpoint.delete", "Delete an endpoint").answer(204, "The endpoint is deleted.")
}

pub(in crate::api) fn read_secret() -> Operation {
    Operation::new("v1.endpoint.get-secret", "Read the signing secret of an endpoint")
        .answer(200, "The secret.")
}

pub(in crate::api) fn rotate_secret() -> Operation {
    Operation::new("v1.endpoint.rotate-secret", "Replace the signing secret of an endpoint")
        .text("Deliveries are also signed with the old secret for the grace period.")
        .answer(200, "The new secret.")
}

pub(in crate::api) fn read_headers() -> Operation {
    Operation::new("v1.endpoint.get-headers", "Read the headers of an endpoint").answer(200, "The headers.")
}

pub(in crate::api) fn put_headers() -> Operation {
    Operation::new("v1.endpoint.update-headers", "Replace the headers of an endpoint")
        .answer(204, "The headers are replaced.")
}

pub(in crate::api) fn patch_headers() -> Operation {
    Operation::new("v1.endpoint.patch-headers", "Change the headers of an endpoint")
        .answer(204, "The headers are changed.")
}

pub(in crate::api) fn stats() -> Operation {
    times(Operation::new("v1.endpoint.get-stats", "Count the messages of an endpoint by their status"))
        .answer(200, "The numbers.")
}

pub(in crate::api) fn attempt_stats() -> Operation {
    times(Operation::new(
        "v1.endpoint.get-attempt-stats",
        "Count the attempts at an endpoint by their outcome",
    ))
    .answer(200, "The numbers.")
}

pub(in crate::api) fn messages_of_endpoint() -> Operation {
    let operation =
        Operation::new("v1.message-attempt.list-attempted-messages", "List the messages of an endpoint");
    page(of_messages(status(expanded_statuses(with_content(operation))))).answer(200, "A page of messages.")
}

pub(in crate::api) fn list_messages() -> Operation {
    page(of_messages(with_content(Operation::new("v1.message.list", "List messages"))))
        .answer(200, "A page of messages.")
}

/// Adds the header by which a request can be repeated.
fn once(operation: Operation) -> Operation {
    operation.request_header(
        "idempotency-key",
        "A second request with the same key creates and sends nothing.",
        json!({"type": "string", "minLength": 1, "maxLength": 255}),
    )
}

pub(in crate::api) fn create_message() -> Operation {
    let operation = once(Operation::new("v1.message.create", "Send a message"))
        .text(
            "The message is on disk before relay responds. A message that exceeds the rate of the application waits \
             for up to a second before it is refused.",
        )
        .body::<MessageIn>()
        .answer(202, "The message.")
        .answer(409, "The idempotency key or the `eventId` belongs to another message.")
        .answer(429, "A quota of the application is exceeded. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.");
    flag(operation, "with_content", "`false` leaves the payload out of the response.", true)
}

pub(in crate::api) fn precheck() -> Operation {
    Operation::new("v1.message.precheck", "Ask whether a message would be sent to any endpoint")
        .answer(200, "The result.")
}

pub(in crate::api) fn read_message() -> Operation {
    with_content(Operation::new("v1.message.get", "Read a message")).answer(200, "The message.")
}

pub(in crate::api) fn destinations() -> Operation {
    let id = "v1.message-attempt.list-attempted-destinations";
    page(Operation::new(id, "List the endpoints of a message")).answer(200, "A page of endpoints.")
}

pub(in crate::api) fn resend() -> Operation {
    once(Operation::new("v1.message-attempt.resend", "Send a message to an endpoint again"))
        .answer(202, "The message is sent again.")
        .answer(409, "The content of the message was erased.")
        .answer(429, "The rate or the backlog of the application is exceeded. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.")
}

pub(in crate::api) fn attempts_of_message(id: &'static str) -> Operation {
    let operation = page(of_attempts(Operation::new(id, "List the attempts of a message")));
    let endpoint = "The id or the uid of an endpoint.";
    operation.query("endpoint_id", endpoint, json!({"type": "string"})).answer(200, "A page of attempts.")
}

pub(in crate::api) fn attempts_of_endpoint() -> Operation {
    let id = "v1.message-attempt.list-by-endpoint";
    page(of_attempts(Operation::new(id, "List the attempts at an endpoint")))
        .answer(200, "A page of attempts.")
}

pub(in crate::api) fn read_attempt() -> Operation {
    expanded_statuses(with_content(Operation::new("v1.message-attempt.get", "Read an attempt")))
        .answer(200, "The attempt.")
}

pub(in crate::api) fn portal_access(id: &'static str) -> Operation {
    Operation::new(id, "Create a session of the portal")
        .text("This version of relay has no portal. The link and its session are valid.")
        .optional_body::<AccessIn>()
        .answer(200, "The link and the token.")
}

pub(in crate::api) fn expire_all() -> Operation {
    Operation::new("v1.authentication.expire-all", "End the sessions of an application")
        .optional_body::<ExpireIn>()
        .answer(204, "The sessions have ended, or end after `expiry` seconds.")
}

pub(in crate::api) fn send_example() -> Operation {
    once(Operation::new("v1.endpoint.send-example", "Send an example of an event type"))
        .text("The endpoint gets the example, whatever its filter is.")
        .answer(202, "The message.")
        .answer(409, "The idempotency key belongs to another message.")
        .answer(429, "A quota of the application is exceeded. `code` names the quota.")
        .header(429, "Retry-After", "After how many seconds the same request may succeed.")
}

pub(in crate::api) fn bulk_expunge() -> Operation {
    Operation::new("v1.message.bulk-expunge", "Erase the contents of many messages")
        .answer(200, "The result for each message.")
}

pub(in crate::api) fn expunge_all() -> Operation {
    Operation::new("v1.message.expunge-all-contents", "Erase the contents of all messages")
        .text("The payloads of all messages that the application has now, and the responses to their attempts, are erased.")
        .answer(202, "The background task.")
}

pub(in crate::api) fn expunge_message() -> Operation {
    Operation::new("v1.message.expunge-content", "Erase the content of a message")
        .text("The payload and the responses to its attempts are erased. The message stays in lists.")
        .answer(204, "The content is erased.")
}

pub(in crate::api) fn expunge_attempt() -> Operation {
    Operation::new("v1.message-attempt.expunge-content", "Erase the response to an attempt")
        .answer(204, "The response is erased.")
}

pub(in crate::api) fn recover() -> Operation {
    once(Operation::new("v1.endpoint.recover", "Send failed messages again"))
        .answer(202, "The task that sends them.")
        .answer(409, "Too many tasks run.")
}

pub(in crate::api) fn replay_missing() -> Operation {
    once(Operation::new("v1.endpoint.replay-missing", "Send messages that an endpoint never got"))
        .answer(202, "The task that sends them.")
        .answer(409, "Too many tasks run.")
}

pub(in crate::api) fn bulk_replay() -> Operation {
    once(Operation::new("v1.endpoint.bulk-replay", "Send messages of an endpoint again"))
        .answer(202, "The task that sends them.")
        .answer(409, "Too many tasks run.")
}

pub(in crate::api) fn list_tasks() -> Operation {
    page(Operation::new("v1.background-task.list", "List background tasks"))
        .text("The list is newest first.")
        .query("order", "The order of the list.", json!({"type": "string", "enum": ["descending"]}))
        .query("status", "The status of the tasks.", json!({"enum": ["running", "finished", "failed"]}))
        .query("task", "The kind of the tasks.", json!({"type": "string"}))
        .answer(200, "A page of tasks.")
}

pub(in crate::api) fn read_task() -> Operation {
    Operation::new("v1.background-task.get", "Read a background task").answer(200, "The task.")
}
