//! The texts of an operation.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::signature::{Described, Signature};

/// The description of a route's method. The path, the access and the errors that every route has are added by the table
/// of routes and by the document; the schemas of bodies and of the query come from the type of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct Operation {
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    /// Responses by their status.
    answers: BTreeMap<u16, AnswerDoc>,
    /// Parameter objects besides those of the signature.
    parameters: Vec<Value>,
    body: BodyDoc,
    pub(super) signature: Signature,
}

/// A response of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AnswerDoc {
    description: &'static str,
    /// Media objects by their media type.
    content: BTreeMap<&'static str, Value>,
    headers: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct BodyDoc {
    is_optional: bool,
    /// Media objects by their media type.
    content: BTreeMap<&'static str, Value>,
}

const JSON: &str = "application/json";

impl Operation {
    /// Creates the description of an operation. `id` names a function in generated clients.
    pub(in crate::api) fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            description: "",
            answers: BTreeMap::new(),
            parameters: Vec::new(),
            body: BodyDoc::default(),
            signature: Signature::default(),
        }
    }

    /// Sets the text below the summary, in CommonMark.
    pub(in crate::api) fn text(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// Adds a response with the body of the handler's type. A 204 has no body.
    pub(in crate::api) fn answer(mut self, status: u16, description: &'static str) -> Self {
        let answer = AnswerDoc { description, content: BTreeMap::new(), headers: Map::new() };
        self.answers.insert(status, answer);
        self
    }

    /// Adds a body of type `T` to the response with `status`, which has a text already or is an error of every route.
    pub(in crate::api) fn content<T: ToSchema>(mut self, status: u16, media_type: &'static str) -> Self {
        let schema = self.signature.refer_to::<T>();
        self.media(status, media_type, json!({"schema": schema}))
    }

    /// Adds a body of lines to the response with `status`. Each line is a `T` as JSON, which the media object names
    /// under `x-item-schema`: OpenAPI describes lines from version 3.2 only.
    pub(in crate::api) fn lines<T: ToSchema>(mut self, status: u16, media_type: &'static str) -> Self {
        let line = self.signature.refer_to::<T>();
        let media = json!({"schema": {"type": "string"}, "x-item-schema": line});
        self.media(status, media_type, media)
    }

    /// Adds a body that is text to the response with `status`.
    pub(in crate::api) fn text_content(self, status: u16, media_type: &'static str) -> Self {
        self.media(status, media_type, json!({"schema": {"type": "string"}}))
    }

    fn media(mut self, status: u16, media_type: &'static str, media: Value) -> Self {
        let empty = || AnswerDoc { description: "", content: BTreeMap::new(), headers: Map::new() };
        self.answers.entry(status).or_insert_with(empty).content.insert(media_type, media);
        self
    }

    /// Adds a header to the response with `status`, which has a text already.
    pub(in crate::api) fn header(mut self, status: u16, name: &str, description: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            let header = json!({"description": description, "schema": {"type": "string"}});
            answer.headers.insert(name.to_owned(), header);
        }
        self
    }

    /// Adds an optional parameter of the query.
    #[expect(clippy::needless_pass_by_value, reason = "the schema is written in place by `json!`")]
    pub(in crate::api) fn query(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(
            json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema}),
        );
        self
    }

    /// Adds an optional header of the request.
    #[expect(clippy::needless_pass_by_value, reason = "the schema is written in place by `json!`")]
    pub(in crate::api) fn request_header(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(
            json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema}),
        );
        self
    }

    /// Sets a JSON body, which the type of the handler does not show.
    pub(in crate::api) fn body<T: ToSchema>(mut self) -> Self {
        let schema = self.signature.refer_to::<T>();
        self.body.content.insert(JSON, json!({"schema": schema}));
        self
    }

    /// Like [`body`](Self::body), for a body that may be left out.
    pub(in crate::api) fn optional_body<T: ToSchema>(mut self) -> Self {
        self.body.is_optional = true;
        self.body::<T>()
    }

    /// Adds a body of lines, each of which is an object as in the JSON body.
    pub(in crate::api) fn body_of_lines(mut self, media_type: &'static str, example: &str) -> Self {
        let content = json!({"schema": {"type": "string"}, "example": example});
        self.body.content.insert(media_type, content);
        self
    }

    /// Adds the parameters and schemas of the handler's type.
    pub(in crate::api) fn of_handler<Arguments, H: Described<Arguments>>(mut self, _handler: &H) -> Self {
        let Signature { query, body, answer, schemas } = H::signature();
        self.signature.query.extend(query);
        self.signature.schemas.extend(schemas);
        self.signature.body = body;
        self.signature.answer = answer;
        self
    }

    pub(super) const fn id(&self) -> &'static str {
        self.id
    }

    /// Returns `true` if the request has a body.
    pub(super) fn has_body(&self) -> bool {
        self.signature.body.is_some() || !self.body.content.is_empty()
    }

    /// Returns the parameters of the query and of the header.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.signature.query.iter().chain(&self.parameters)
    }

    /// Returns the statuses that the operation describes itself.
    pub(super) fn statuses(&self) -> impl Iterator<Item = u16> {
        self.answers.keys().copied()
    }

    /// Returns the operation object without its parameters, its security and the errors of every route.
    pub(super) fn object<'e>(
        &self,
        error: impl Fn(u16) -> &'e Value,
        error_type: &'static str,
    ) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("summary".to_owned(), json!(self.summary));
        if !self.description.is_empty() {
            object.insert("description".to_owned(), json!(self.description));
        }
        if self.has_body() {
            let mut content: Map<_, _> =
                self.body.content.iter().map(|(media, body)| ((*media).to_owned(), body.clone())).collect();
            if let Some(schema) = &self.signature.body {
                content.insert(JSON.to_owned(), json!({"schema": schema}));
            }
            let body = json!({"required": !self.body.is_optional, "content": content});
            object.insert("requestBody".to_owned(), body);
        }
        let answers = self.answers.iter();
        let answers = answers.filter(|(_, answer)| !answer.description.is_empty());
        let responses: Map<_, _> = answers
            .map(|(status, answer)| {
                (status.to_string(), self.response(*status, answer, error(*status), error_type))
            })
            .collect();
        object.insert("responses".to_owned(), Value::Object(responses));
        object
    }

    fn response(&self, status: u16, answer: &AnswerDoc, error: &Value, error_type: &'static str) -> Value {
        let mut content = contents(answer);
        if status >= 400 {
            content.insert(error_type.to_owned(), json!({"schema": error}));
        } else if content.is_empty()
            && status != 204
            && let Some(schema) = &self.signature.answer
        {
            content.insert(JSON.to_owned(), json!({"schema": schema}));
        }
        let mut response = Map::from_iter([("description".to_owned(), json!(answer.description))]);
        if !content.is_empty() {
            response.insert("content".to_owned(), Value::Object(content));
        }
        if !answer.headers.is_empty() {
            response.insert("headers".to_owned(), Value::Object(answer.headers.clone()));
        }
        Value::Object(response)
    }

    /// Returns the bodies of errors of every route that this operation also writes in another form.
    pub(super) fn more_contents(&self) -> impl Iterator<Item = (u16, Map<String, Value>)> {
        let only_contents = self.answers.iter().filter(|(_, answer)| answer.description.is_empty());
        only_contents.map(|(status, answer)| (*status, contents(answer)))
    }
}

fn contents(answer: &AnswerDoc) -> Map<String, Value> {
    let content = answer.content.iter();
    content.map(|(name, media)| ((*name).to_owned(), media.clone())).collect()
}
