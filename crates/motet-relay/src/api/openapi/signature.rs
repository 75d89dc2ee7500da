//! The part of an operation that follows from the type of its handler: the parameters of the query, and the schemas of the
//! bodies.

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::extract::{Id, Json, Params, TenantId};
use crate::api::feed::FeedState;
use crate::api::problem::Problem;
use crate::api::tenant::Tenant;

/// The schemas that a document has under `components`, by their names.
type NamedSchemas = Vec<(String, RefOr<Schema>)>;

/// The types of a handler, in the form that they have in a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::api) struct Signature {
    /// Parameter objects.
    pub(super) query: Vec<Value>,
    /// The schema of the JSON body of a request.
    pub(super) body: Option<Value>,
    /// The schema of the JSON body of a response.
    pub(super) answer: Option<Value>,
    /// The schemas that the other members refer to.
    pub(super) schemas: Vec<(String, Value)>,
}

impl Signature {
    /// Sets the type of the JSON body of a request.
    pub(in crate::api) fn set_body<T: ToSchema>(&mut self) {
        self.body = Some(self.refer_to::<T>());
    }

    /// Adds the schema of a type and those that it refers to. Returns a reference to it.
    pub(in crate::api) fn refer_to<T: ToSchema>(&mut self) -> Value {
        let mut named = NamedSchemas::new();
        named.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut named);
        self.schemas.extend(named.into_iter().map(|(name, schema)| (name, to_value(&schema))));
        to_value(&Ref::from_schema_name(T::name()))
    }
}

fn to_value<T: Serialize>(described: &T) -> Value {
    let mut value = serde_json::to_value(described).expect("a schema is written as JSON");
    tidy(&mut value);
    value
}

/// Joins the lines of descriptions, which are wrapped in the source, and removes members without a meaning.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                let paragraphs: Vec<_> = text.split("\n\n").map(|lines| lines.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            members.retain(|name, member| match name.as_str() {
                "propertyNames" => *member != json!({"type": "string"}),
                "default" => !member.is_null(),
                _ => true,
            });
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Returns a parameter of a query without the type `null`: there is no text for it.
fn without_null(mut parameter: Value) -> Value {
    let Some(schema) = parameter.get_mut("schema") else { return parameter };
    if let Some(kind) = schema.get_mut("type")
        && let Some(types) = kind.as_array_mut()
    {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            *kind = only.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        if let [only] = choices.as_slice() {
            *schema = only.clone();
        }
    }
    parameter
}

/// A handler whose arguments and response are described. `Arguments` is the tuple of its arguments.
pub(in crate::api) trait Described<Arguments> {
    fn signature() -> Signature;
}

/// An argument of a handler. Most of them are not part of the document.
pub(in crate::api) trait Argument {
    fn describe(_signature: &mut Signature) {}
}

/// The response of a handler.
pub(in crate::api) trait Answer {
    fn describe(_signature: &mut Signature) {}
}

macro_rules! described {
    ($($argument:ident),*) => {
        impl<F, Running, Output, $($argument),*> Described<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Running,
            Running: Future<Output = Output>,
            Output: Answer,
            $($argument: Argument,)*
        {
            fn signature() -> Signature {
                let mut signature = Signature::default();
                $($argument::describe(&mut signature);)*
                Output::describe(&mut signature);
                signature
            }
        }
    };
}

described!();
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);
described!(A, B, C, D, E, G);

impl Argument for State<Arc<ApiState>> {}
impl Argument for State<FeedState> {}
impl Argument for Principal {}
impl Argument for Tenant {}
impl Argument for TenantId {}
impl Argument for Id {}
impl Argument for HeaderMap {}
impl Argument for OriginalUri {}
/// The body is described by the operation.
impl Argument for Request {}

impl<T: ToSchema> Argument for Json<T> {
    fn describe(signature: &mut Signature) {
        signature.set_body::<T>();
    }
}

impl<T: IntoParams> Argument for Params<T> {
    fn describe(signature: &mut Signature) {
        let parameters = T::into_params(|| Some(ParameterIn::Query));
        signature.query.extend(parameters.iter().map(to_value).map(without_null));
    }
}

impl<T: Answer, E> Answer for Result<T, E> {
    fn describe(signature: &mut Signature) {
        T::describe(signature);
    }
}

impl<T: Answer> Answer for (StatusCode, T) {
    fn describe(signature: &mut Signature) {
        T::describe(signature);
    }
}

impl<T: ToSchema> Answer for JsonResponse<T> {
    fn describe(signature: &mut Signature) {
        signature.answer = Some(signature.refer_to::<T>());
    }
}

/// Without a body.
impl Answer for StatusCode {}
impl Answer for Problem {}
/// The body is described by the operation.
impl Answer for Response {}
