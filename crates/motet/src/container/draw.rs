//! Drawings of the graph as text.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::graph::{Graph, Needed, Node};
use super::provider::Lifetime;

/// Returns each edge once, with `true` if every argument along it is optional.
fn edges(node: &Node) -> BTreeMap<usize, bool> {
    let mut edges = BTreeMap::new();
    for arg in &node.args {
        if let Needed::Node { target, optional } = arg {
            let all = edges.entry(target.node).or_insert(*optional);
            *all &= *optional;
        }
    }
    edges
}

/// The components by module; those without a module first.
fn modules(graph: &Graph) -> BTreeMap<&str, Vec<usize>> {
    let mut modules: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        modules.entry(node.module.as_ref().map_or("", |module| module.as_str())).or_default().push(at);
    }
    modules
}

/// The text of a node; `break_` separates its lines.
fn label(node: &Node, break_: &str) -> String {
    let mut label = node.key.to_string();
    for bound in &node.binds {
        let _ = write!(label, "{break_}as {bound}");
    }
    if node.lifetime != Lifetime::Singleton {
        let _ = write!(label, "{break_}{}", node.lifetime);
    }
    label
}

pub(crate) fn dot(graph: &Graph) -> String {
    let mut out = String::from("digraph container {\n  rankdir=LR;\n  node [shape=box];\n");
    for (number, (module, nodes)) in modules(graph).into_iter().enumerate() {
        let indent = if module.is_empty() { "  " } else { "    " };
        if !module.is_empty() {
            let _ = writeln!(out, "  subgraph cluster_{number} {{\n    label={module:?};");
        }
        for at in nodes {
            // DOT breaks a line at the two characters `\n`, so the escape itself is written.
            let label =
                label(&graph.nodes[at], "\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(out, "{indent}n{at} [label=\"{label}\"];");
        }
        if !module.is_empty() {
            out.push_str("  }\n");
        }
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        for (needed, optional) in edges(node) {
            let style = if optional { " [style=dashed]" } else { "" };
            let _ = writeln!(out, "  n{at} -> n{needed}{style};");
        }
    }
    out.push_str("}\n");
    out
}

pub(crate) fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    for (number, (module, nodes)) in modules(graph).into_iter().enumerate() {
        let indent = if module.is_empty() { "  " } else { "    " };
        if !module.is_empty() {
            let _ = writeln!(out, "  subgraph m{number} [\"{}\"]", escaped(module));
        }
        for at in nodes {
            let label = escaped(&label(&graph.nodes[at], "\n")).replace('\n', "<br/>");
            let _ = writeln!(out, "{indent}n{at}[\"{label}\"]");
        }
        if !module.is_empty() {
            out.push_str("  end\n");
        }
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        for (needed, optional) in edges(node) {
            let arrow = if optional { "-.->" } else { "-->" };
            let _ = writeln!(out, "  n{at} {arrow} n{needed}");
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

pub(crate) fn list(graph: &Graph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, node) in graph.nodes.iter().enumerate() {
        if at > 0 {
            f.write_char('\n')?;
        }
        write!(f, "{} ({}, {})", node.name, node.lifetime, node.site)?;
        for bound in &node.binds {
            write!(f, "\n  as {bound}")?;
        }
        for (needed, optional) in edges(node) {
            let needs = if optional { "can use" } else { "needs" };
            write!(f, "\n  {needs} {}", graph.nodes[needed].name)?;
        }
    }
    Ok(())
}
