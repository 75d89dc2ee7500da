//! The OpenAPI documents: of the API under `/v1`, and of the API of Svix's clients.
//!
//! A document is made from the table of routes. The path, the method and the scope of an operation come from its row,
//! the schemas from the types of its handler, and the texts from its [`Operation`], without which a row cannot be
//! written down.

mod operation;
mod signature;
pub(super) mod svix;
#[cfg(test)]
mod tests;
pub(super) mod v1;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

pub(super) use self::operation::Operation;
pub(super) use self::signature::{Answer, Argument, Described, Signature};
use super::problem::ProblemBody;
use super::routes::{Access, Reach, RouteRow, TENANT};
use crate::access::KeyScope;

/// The name of the security scheme.
const API_KEY: &str = "api_key";

/// An API with a document of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiDocument {
    title: &'static str,
    description: &'static str,
    /// The beginning of the paths.
    prefix: &'static str,
    error_type: &'static str,
    /// The schema of the errors with a status.
    error: fn(&mut Signature, u16) -> Value,
    /// `true` if an invalid field or parameter is a 422.
    has_field_errors: bool,
    tags: &'static [(&'static str, &'static str)],
    /// The text of a parameter of a path.
    path_parameter: fn(tag: &str, name: &str) -> &'static str,
}

/// The errors that routes have in common: the status, the name of the response, and its text.
const ERRORS: [(u16, &str, &str); 11] = [
    (
        400,
        "BadRequest",
        "The request is invalid. `detail` names the parameter or the field, and the mistake.",
    ),
    (401, "Unauthorized", "The request has no API key, or its key is unknown, revoked or expired."),
    (
        403,
        "Forbidden",
        "The key does not have the scope of the operation, or it belongs to one tenant and the operation needs a key of all tenants.",
    ),
    (
        404,
        "NotFound",
        "The resource does not exist. A key of one tenant gets the same response for the resources of other tenants.",
    ),
    (408, "RequestTimeout", "The body was not sent within 30 seconds."),
    (413, "ContentTooLarge", "The body, or the data of an event, is too large."),
    (415, "UnsupportedMediaType", "The `Content-Type` of the body is not supported."),
    (422, "UnprocessableEntity", "A field of the body or a parameter of the query is invalid."),
    (429, "TooManyRequests", "A quota of the tenant is exceeded. `code` names the quota."),
    (500, "InternalServerError", "A bug in relay, or a damaged store. The log of relay has the details."),
    (
        503,
        "ServiceUnavailable",
        "relay cannot do the work now: the store cannot be written, relay shuts down, or a limit of connections or memory is reached. Try again after the time in `Retry-After`.",
    ),
];

/// A row of a document.
#[derive(Debug, Clone, Copy)]
struct DocumentRow<'a> {
    method: &'a Method,
    path: &'a str,
    /// `None`: the route needs no API key.
    access: Option<Access>,
    operation: &'a Operation,
}

/// A route that needs no API key, and is therefore not in the table of routes.
#[derive(Debug, Clone)]
pub(super) struct OpenRoute {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) operation: Operation,
}

/// The schemas of errors by their status.
struct ErrorSchemas(Vec<(u16, Value)>);

impl ErrorSchemas {
    fn of(&self, status: u16) -> &Value {
        let found = self.0.iter().find(|(known, _)| *known == status).or_else(|| self.0.first());
        found.map_or(&Value::Null, |(_, schema)| schema)
    }
}

/// Returns the document of an API.
pub(super) fn document(api: &ApiDocument, rows: &[RouteRow], open: &[OpenRoute]) -> Value {
    let rows = rows.iter().map(|RouteRow { method, path, access, operation }| DocumentRow {
        method,
        path,
        access: Some(*access),
        operation,
    });
    let open = open.iter().map(|OpenRoute { method, path, operation }| DocumentRow {
        method,
        path,
        access: None,
        operation,
    });
    let mut common = Signature::default();
    let errors: Vec<_> =
        ERRORS.iter().map(|(status, ..)| (*status, (api.error)(&mut common, *status))).collect();
    let errors = ErrorSchemas(errors);
    let mut schemas = BTreeMap::new();
    collect(&mut schemas, &common);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    // A path with a slash at its end is the same operation.
    for row in rows.chain(open).filter(|row| !row.path.ends_with('/')) {
        collect(&mut schemas, &row.operation.signature);
        let object = operation_object(api, &row, &errors);
        let path = paths.entry(format!("{}{}", api.prefix, row.path)).or_default();
        path.insert(row.method.as_str().to_ascii_lowercase(), object);
    }
    let responses: Map<_, _> = ERRORS
        .into_iter()
        .map(|(status, name, text)| {
            (name.to_owned(), error_response(status, text, &error_content(api, errors.of(status))))
        })
        .collect();
    let tags: Vec<_> = api
        .tags
        .iter()
        .map(|(name, description)| json!({"name": name, "description": description}))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": api.title,
            "description": api.description,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": {
                API_KEY: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "rk_<id>_<secret>",
                    "description": scopes(),
                },
            },
        },
    })
}

/// Adds the schemas of a signature. Two types with one name are a bug, which a test finds.
fn collect(schemas: &mut BTreeMap<String, Value>, signature: &Signature) {
    for (name, schema) in &signature.schemas {
        let known = schemas.entry(name.clone()).or_insert_with(|| schema.clone());
        debug_assert_eq!(known, schema, "two types have the name {name} in a document");
    }
}

fn scopes() -> String {
    let scopes = KeyScope::ALL.map(|scope| format!("- `{scope}`: {}", scope.description()));
    format!(
        "An API key as `Authorization: Bearer rk_...`. The scopes of the key decide which operations it may call:\n\n{}",
        scopes.join("\n")
    )
}

/// Returns the tag of a path: its first segment that is not a parameter, within a tenant.
fn tag_of(path: &str) -> &str {
    let within = path.strip_prefix(TENANT).filter(|rest| is_resource(rest)).unwrap_or(path);
    let within = within.strip_prefix("/app/{app}").filter(|rest| is_resource(rest)).unwrap_or(within);
    match within.split('/').nth(1).unwrap_or_default() {
        "pause" | "resume" | "retention" | "rekey" => "relay",
        tag => tag,
    }
}

/// Returns `true` if the rest of a path names a resource of the tenant, not an action on the tenant itself.
fn is_resource(rest: &str) -> bool {
    !matches!(rest, "" | "/pause" | "/resume")
}

fn operation_object(api: &ApiDocument, row: &DocumentRow<'_>, errors: &ErrorSchemas) -> Value {
    let operation = row.operation;
    let is_of_tenant = row.path.starts_with(TENANT);
    let tag = tag_of(row.path);
    let mut object = operation.object(|status| errors.of(status), api.error_type);
    // The form with the tenant in the path is an operation of its own.
    let is_second_form = is_of_tenant && is_resource(&row.path[TENANT.len()..]);
    let id = if is_second_form { format!("tenant_{}", operation.id()) } else { operation.id().to_owned() };
    object.insert("operationId".to_owned(), json!(id));
    object.insert("tags".to_owned(), json!([tag]));
    object.insert("parameters".to_owned(), parameters(api, row, tag, is_second_form));
    match row.access {
        Some(access) => {
            object.insert("security".to_owned(), json!([{API_KEY: [access.scope.as_str()]}]));
            if access.reach == Reach::Relay {
                let text = object.get("description").and_then(Value::as_str);
                let text = text.map_or_else(String::new, |text| format!("{text}\n\n"));
                let needs = "Needs a key of all tenants.";
                object.insert("description".to_owned(), json!(format!("{text}{needs}")));
            }
        }
        None => drop(object.insert("security".to_owned(), json!([]))),
    }
    if let Some(Value::Object(responses)) = object.get_mut("responses") {
        add_errors(api, row, errors, responses);
    }
    Value::Object(object)
}

fn parameters(api: &ApiDocument, row: &DocumentRow<'_>, tag: &str, is_second_form: bool) -> Value {
    let names = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of_path = names.map(|name| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": (api.path_parameter)(tag, name),
            "schema": {"type": "string"},
        })
    });
    // A path that names the tenant leaves no choice to the query.
    let of_operation = row.operation.parameters();
    let of_operation = of_operation
        .filter(|parameter| !(is_second_form && parameter["name"] == "tenant" && parameter["in"] == "query"));
    of_path.chain(of_operation.cloned()).collect()
}

/// Adds the errors that every route of the kind has.
fn add_errors(
    api: &ApiDocument,
    row: &DocumentRow<'_>,
    errors: &ErrorSchemas,
    responses: &mut Map<String, Value>,
) {
    let own: Vec<_> = row.operation.statuses().collect();
    for (status, name, text) in ERRORS {
        let applies = match status {
            401 | 403 => row.access.is_some(),
            404 => row.path.contains('{'),
            422 => api.has_field_errors,
            408 | 413 | 415 => row.operation.has_body(),
            // Only where an operation describes it.
            429 => false,
            _ => true,
        };
        let mut more = row.operation.more_contents().filter(|(other, _)| *other == status);
        if let Some((_, content)) = more.next() {
            let mut all = error_content(api, errors.of(status));
            all.extend(content);
            responses.insert(status.to_string(), error_response(status, text, &all));
        } else if applies && !own.contains(&status) {
            let reference = json!({"$ref": format!("#/components/responses/{name}")});
            responses.insert(status.to_string(), reference);
        }
    }
}

fn error_content(api: &ApiDocument, error: &Value) -> Map<String, Value> {
    Map::from_iter([(api.error_type.to_owned(), json!({"schema": error}))])
}

fn error_response(status: u16, text: &str, content: &Map<String, Value>) -> Value {
    let mut response = json!({"description": text, "content": content});
    match status {
        401 => {
            response["headers"] = json!({
                "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
            });
        }
        429 | 503 => {
            response["headers"] = json!({
                "Retry-After": {
                    "description": "After how many seconds the same request may succeed.",
                    "schema": {"type": "integer", "minimum": 0},
                },
            });
        }
        _ => {}
    }
    response
}

/// The errors of `/v1`.
fn problem(signature: &mut Signature, _status: u16) -> Value {
    signature.refer_to::<ProblemBody<'static>>()
}

/// A document as it is served. It is made by the first request for it: most starts, and each command on a stopped relay,
/// have none.
#[derive(Clone)]
pub(super) struct ServedDocument(Arc<LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>>);

impl ServedDocument {
    pub(super) fn new<const N: usize>(
        api: &'static ApiDocument,
        rows: Vec<RouteRow>,
        open: [OpenRoute; N],
    ) -> Self {
        let make = move || Bytes::from(document(api, &rows, &open).to_string());
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }

    pub(super) fn response(&self) -> Response {
        ([(CONTENT_TYPE, "application/json")], Bytes::clone(&self.0)).into_response()
    }
}
