//! The OpenAPI documents: relay serves the committed ones, and they are complete.

use std::collections::BTreeSet;
use std::fs;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{DOCUMENTS, Relay, place, refusal_of};

/// Writes the documents anew instead of comparing them.
const WRITE: &str = "MOTET_WRITE_OPENAPI";

#[tokio::test]
async fn served_documents_are_the_committed_ones() {
    let relay = Relay::start().await;
    for (file, path) in [("openapi.json", "/openapi.json"), ("svix-openapi.json", "/api/v1/openapi.json")] {
        let answer = relay.client().request(Method::GET, path, &[], "").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let text = format!("{}\n", serde_json::to_string_pretty(&answer.json()).unwrap());
        if std::env::var_os(WRITE).is_some() {
            fs::write(place(file), text).unwrap();
        } else {
            let committed = fs::read_to_string(place(file)).unwrap();
            assert!(
                committed == text,
                "docs/relay/{file} differs from what relay serves; write it anew with \
                 `{WRITE}=1 cargo test -p motet-relay --test it openapi::served`"
            );
        }
    }
    relay.stop().await;
}

#[test]
fn each_operation_has_an_id_a_text_and_responses() {
    for document in DOCUMENTS.iter() {
        let tags: BTreeSet<_> = document.value["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["name"].clone().to_string())
            .collect();
        let mut ids = BTreeSet::new();
        for (path, item) in document.value["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let case = format!("{}: {method} {path}", document.file);
                assert!(ids.insert(operation["operationId"].to_string()), "{case}: the id is used twice");
                assert!(operation["summary"].as_str().unwrap().len() > 5, "{case}");
                assert!(tags.contains(&operation["tags"][0].to_string()), "{case}: {}", operation["tags"]);
                assert!(operation["security"].is_array(), "{case}");
                let responses = operation["responses"].as_object().unwrap();
                let is_result =
                    |status: &&String| status.starts_with('2') || *status == "501" || *status == "404";
                assert!(responses.keys().any(|status| is_result(&status)), "{case}");
                let names = path.split('/').filter(|part| part.starts_with('{')).count();
                let described = operation["parameters"].as_array().unwrap();
                let described = described.iter().filter(|parameter| parameter["in"] == "path");
                assert_eq!(described.count(), names, "{case}");
            }
        }
        assert_references(&document.value, &document.value);
    }
}

/// Checks that each reference has a target.
fn assert_references(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let target = document.pointer(reference.strip_prefix('#').unwrap());
                assert!(target.is_some(), "{reference} has no target");
            }
            members.values().for_each(|member| assert_references(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references(document, item)),
        _ => {}
    }
}

#[test]
fn response_that_differs_from_its_document_is_found() {
    let problem = |status: u16| json!({"type": "about:blank", "title": "t", "status": status, "detail": "d"});
    let check = |path, status, content_type, body: &Value| {
        refusal_of(path, StatusCode::from_u16(status).unwrap(), content_type, body)
    };
    let page = json!({"items": [], "next_cursor": null});
    let json_type = "application/json";
    let problem_type = "application/problem+json";
    assert_eq!(check("/v1/events?limit=1", 200, json_type, &page), None);
    assert_eq!(check("/v1/events", 403, problem_type, &problem(403)), None);
    assert_eq!(check("/v1/nothing", 404, problem_type, &problem(404)), None);
    for (why, found) in [
        ("status", check("/v1/events", 418, problem_type, &problem(418))),
        ("content type", check("/v1/events", 200, "text/plain", &page)),
        (
            "extra",
            check("/v1/events", 200, json_type, &json!({"items": [], "next_cursor": null, "extra": 1})),
        ),
        ("next_cursor", check("/v1/events", 200, json_type, &json!({"items": []}))),
        ("items", check("/v1/events", 200, json_type, &json!({"items": [{}], "next_cursor": null}))),
        ("order", check("/v1/events?order=up", 200, json_type, &page)),
        ("extra", check("/v1/nothing", 404, problem_type, &json!({"extra": 1}))),
        ("no such operation", check("/v1/nothing", 200, json_type, &json!({}))),
        ("content type", check("/api/v1/app", 401, problem_type, &problem(401))),
    ] {
        let found = found.unwrap_or_else(|| panic!("{why}: not found"));
        assert!(found.contains(why), "{why}: {found}");
    }
}
