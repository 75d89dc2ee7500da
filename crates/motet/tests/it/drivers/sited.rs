//! Searches the sources for public futures, as in [`listed`](super::listed): each must record its call site, so that the
//! report of a simulation names the operation in which a task is suspended.

use std::collections::BTreeSet;

use super::listed::{futures_of, module, sources};

/// Public futures whose site is elsewhere, with the reason.
const WITHOUT: &[(&str, &str)] = &[
    ("batch::Batcher::submit", "`Submit` has the site"),
    ("batch::Loader::load", "`Load` has the site"),
    ("middleware::Handler::call", "it is `Next::run`, called at the same line"),
    ("middleware::Handler::call_with", "it is `Next::run`, called at the same line"),
    ("middleware::policy::InnerCall", "it is `Next::run` within a policy"),
    ("sim::Fault", "the trace names the fault point"),
    ("sim::FaultWait", "the trace names the fault point"),
    ("sim::Hooked", "it is a task, and spawned somewhere"),
    ("task::ScopeBuilder::run", "it is `run_finding`, called at the same line"),
    ("task::scope", "it is `ScopeBuilder::run`, called at the same line"),
];

#[test]
fn every_public_future_has_a_simulator_site_or_is_listed() {
    let sources = sources();
    let mut without = BTreeSet::new();
    for (path, text) in &sources {
        for (name, code) in futures_of(&module(path), text) {
            if !has_a_site(code) {
                without.insert(name);
            }
        }
    }
    let expected: BTreeSet<String> = WITHOUT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(without, expected);
}

#[test]
fn search_tells_code_with_a_simulator_site_from_code_without() {
    assert!(!has_a_site("pub async fn wait() { other().await }"));
    assert!(has_a_site("pub fn wait() -> impl Future { sim::at(\"queue\", \"wait\", async {}) }"));
}

fn has_a_site(code: &str) -> bool {
    ["sim::at(", "sim::at_named(", "sim::around(", "sim::around_named(", "Site::", "site.enter()"]
        .iter()
        .any(|way| code.contains(way))
}
