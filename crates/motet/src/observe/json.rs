//! A snapshot as JSON, for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{ComponentView, ScopeView, Stat, TaskView};

impl ScopeView {
    /// Returns the tree as a JSON object with `name`, `site`, `age_seconds`, `cancelled`, `tasks`, `starting`,
    /// `components`, `releases` and `scopes`. An unknown value is `null`.
    #[must_use]
    pub fn to_json(&self) -> String {
        scope(self).to_string()
    }
}

fn scope(view: &ScopeView) -> Value {
    let releases = &view.releases;
    json!({
        "name": view.name.as_str(),
        "site": view.site.to_string(),
        "age_seconds": view.age.map(|age| age.as_secs_f64()),
        "cancelled": view.reason.as_ref().map(ToString::to_string),
        "tasks": view.tasks.iter().map(task).collect::<Vec<_>>(),
        "starting": view.starting,
        "components": view.components.iter().map(component).collect::<Vec<_>>(),
        "releases": {
            "started": releases.started,
            "finished": releases.finished,
            "timed_out": releases.timed_out,
            "lost": releases.lost,
        },
        "scopes": view.scopes.iter().map(scope).collect::<Vec<_>>(),
    })
}

fn task(view: &TaskView) -> Value {
    json!({
        "name": view.name.as_str(),
        "kind": view.kind.word(),
        "state": if view.is_cancelled { "cancelling" } else { "running" },
        "site": view.site.to_string(),
        "age_seconds": view.age.as_ref().map(Duration::as_secs_f64),
    })
}

fn component(view: &ComponentView) -> Value {
    let stats: Map<String, Value> =
        view.stats.iter().map(|(name, stat)| (name.to_owned(), value(stat))).collect();
    json!({ "kind": view.kind, "name": view.name.as_str(), "stats": stats })
}

fn value(stat: &Stat) -> Value {
    match stat {
        Stat::Count(count) | Stat::Total(count) => json!(count),
        Stat::Value(value) => json!(value),
        Stat::Text(text) => json!(text),
    }
}
