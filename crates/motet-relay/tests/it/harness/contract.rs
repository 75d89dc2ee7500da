//! The OpenAPI documents of relay, with which every response of the tests is compared.
//!
//! A response must have a documented status, a documented content type, and a body without fields beyond its schema. The
//! parameters and the body of a request that succeeds must be documented too.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::Answer;

/// A committed document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) file: &'static str,
    /// The beginning of the paths of its operations.
    prefix: &'static str,
    error_type: &'static str,
    pub(crate) value: Value,
    /// By the schema that they are made from.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// The committed documents. The longer prefix comes first.
pub(crate) static DOCUMENTS: LazyLock<[Document; 2]> = LazyLock::new(|| {
    [
        Document::read("svix-openapi.json", "/api/v1", "application/json"),
        Document::read("openapi.json", "/v1", "application/problem+json"),
    ]
});

/// Returns the place of a committed document.
pub(crate) fn place(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/relay").join(file)
}

/// A request of a test.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a Method,
    /// With the query.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// Compares a response with the documents. Fails the test if it differs.
pub(super) fn check(sent: &Sent<'_>, answer: &Answer) {
    let path = sent.path.split('?').next().unwrap_or_default();
    // Clients of Svix may send two slashes.
    let path = path.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let is_within = |document: &&Document| {
        path.strip_prefix(document.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A document is no operation of itself, and a preflight belongs to CORS.
    if path == "/api/v1/openapi.json" || sent.method == Method::OPTIONS {
        return;
    }
    if let Some(document) = DOCUMENTS.iter().find(is_within)
        && let Err(why) = document.check(path, sent, answer)
    {
        let (method, status) = (sent.method, answer.status);
        panic!(
            "{method} {} -> {status} is not as in docs/relay/{}: {why}\n{}",
            sent.path,
            document.file,
            answer.text()
        );
    }
}

impl Document {
    fn read(file: &'static str, prefix: &'static str, error_type: &'static str) -> Self {
        let place = place(file);
        let text = fs::read_to_string(&place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
        Self { file, prefix, error_type, value, validators: Mutex::default() }
    }

    fn check(&self, path: &str, sent: &Sent<'_>, answer: &Answer) -> Result<(), String> {
        let Some(item) = self.path_item(path) else {
            return self.check_refusal(&["400", "401", "404", "405", "501", "503"], sent, answer);
        };
        let method = if sent.method == Method::HEAD { "get".to_owned() } else { lower(sent.method) };
        let Some(operation) = item.get(&method) else {
            return self.check_refusal(&["400", "401", "404", "405", "503"], sent, answer);
        };
        let status = answer.status.as_str();
        let response = operation["responses"].get(status).ok_or("the status is not documented")?;
        self.check_response(self.resolve(response), sent, answer)?;
        if answer.status.is_success() { self.check_request(item, operation, sent) } else { Ok(()) }
    }

    /// Checks a response to a request without an operation.
    fn check_refusal(&self, statuses: &[&str], sent: &Sent<'_>, answer: &Answer) -> Result<(), String> {
        if !statuses.contains(&answer.status.as_str()) {
            return Err("there is no such operation".to_owned());
        }
        let responses = self.value["components"]["responses"].as_object();
        let response = responses.into_iter().flat_map(|responses| responses.values()).next();
        let response = response.ok_or("the document has no responses")?;
        let schema = &response["content"][self.error_type]["schema"];
        let response = json!({"content": {self.error_type: {"schema": schema}}});
        self.check_response(&response, sent, answer)
    }

    /// Returns the path item of a path: the one with the most fixed segments.
    fn path_item(&self, path: &str) -> Option<&Map<String, Value>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<_> = path.split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<_> = template.split('/').collect();
            let fits = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
            parts.len() == segments.len() && parts.iter().zip(&segments).all(fits)
        };
        let items = self.value["paths"].as_object()?.iter().filter(|(template, _)| fits(template));
        items.min_by_key(|(template, _)| template.matches('{').count())?.1.as_object()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').unwrap();
                self.value.pointer(pointer).unwrap_or_else(|| panic!("{}: no {reference}", self.file))
            }
            None => value,
        }
    }

    fn check_response(&self, response: &Value, sent: &Sent<'_>, answer: &Answer) -> Result<(), String> {
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            return if answer.body.is_empty() { Ok(()) } else { Err("a body is not documented".to_owned()) };
        };
        let media_type = media_type(&answer.headers).ok_or("the response has no content type")?;
        let media = content.get(&media_type);
        let media = media.ok_or_else(|| format!("the content type {media_type} is not documented"))?;
        if sent.method == Method::HEAD || media_type == "text/event-stream" {
            return Ok(());
        }
        if let Some(line) = media.get("x-item-schema") {
            let validator = self.validator(line, true);
            return answer.text().lines().try_for_each(|line| validate(&validator, line.as_bytes()));
        }
        validate(&self.validator(&media["schema"], true), &answer.body)
    }

    fn check_request(
        &self,
        item: &Map<String, Value>,
        operation: &Value,
        sent: &Sent<'_>,
    ) -> Result<(), String> {
        let parameters: Vec<_> = [item.get("parameters"), operation.get("parameters")]
            .into_iter()
            .flatten()
            .filter_map(Value::as_array)
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let query = sent.path.split_once('?').map_or("", |(_, query)| query);
        for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
            let name = name.strip_suffix("[]").unwrap_or(&name);
            if !parameters.contains(&name) {
                return Err(format!("the parameter {name} is not documented"));
            }
        }
        let body = operation.get("requestBody");
        // A client may send an object without members to an operation without a body.
        if sent.body.is_empty() || (body.is_none() && matches!(sent.body, b"{}" | b"null")) {
            return Ok(());
        }
        let body = body.ok_or("a body of the request is not documented")?;
        let given = sent.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let given = given.map_or("", |(_, value)| value.split(';').next().unwrap_or_default());
        let media = body["content"].get(given.to_ascii_lowercase());
        let media =
            media.ok_or_else(|| format!("the content type {given} of the request is not documented"))?;
        if given != "application/json" {
            return Ok(());
        }
        validate(&self.validator(&media["schema"], false), sent.body)
            .map_err(|why| format!("the request succeeded, but {why}"))
    }

    fn validator(&self, schema: &Value, is_answer: bool) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let made = validators.entry(format!("{is_answer} {schema}")).or_insert_with(|| {
            let whole = self.inline(schema, is_answer);
            let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            Arc::new(options.build(&whole).unwrap_or_else(|e| panic!("{}: {e}\n{whole}", self.file)))
        });
        Arc::clone(made)
    }

    /// Replaces references by what they refer to. In schemas of responses, objects get no other fields.
    fn inline(&self, schema: &Value, is_closed: bool) -> Value {
        let schema = self.resolve(schema);
        match schema {
            Value::Object(members) => {
                let mut inlined: Map<_, _> = members
                    .iter()
                    .map(|(name, member)| {
                        // The parts of a whole are closed together.
                        let is_closed = is_closed && name != "allOf";
                        (name.clone(), self.inline(member, is_closed))
                    })
                    .collect();
                let is_object = members.contains_key("properties") || members.contains_key("allOf");
                if is_closed && is_object && !members.contains_key("additionalProperties") {
                    inlined.insert("unevaluatedProperties".to_owned(), json!(false));
                }
                Value::Object(inlined)
            }
            Value::Array(items) => items.iter().map(|item| self.inline(item, is_closed)).collect(),
            other => other.clone(),
        }
    }
}

fn validate(validator: &Validator, body: &[u8]) -> Result<(), String> {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        // Data with as many levels as relay takes is one level more in a body.
        Err(error) if error.to_string().contains("recursion limit") => return Ok(()),
        Err(error) => return Err(format!("the body is not JSON: {error}")),
    };
    let errors: Vec<_> =
        validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

fn lower(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}

/// Returns an answer for the tests of this module.
pub(crate) fn refusal_of(path: &str, status: StatusCode, content_type: &str, body: &Value) -> Option<String> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
    let body = body.to_string().into();
    let answer = Answer { status, headers, body };
    let sent = Sent { method: &Method::GET, path, headers: &[], body: b"" };
    let document = DOCUMENTS.iter().find(|document| path.starts_with(document.prefix))?;
    document.check(path.split('?').next()?, &sent, &answer).err()
}
