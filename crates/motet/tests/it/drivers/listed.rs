//! Searches the sources for public futures: each has a driver, and each driver drives a future that exists.
//!
//! It searches the text, and relies on the style of this crate: an `impl` begins at the start of its line, and only public
//! items are `pub` (the lint `unreachable_pub`).
//!
//! The tests of other crates of the workspace include this file by its path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::DRIVERS;

#[test]
fn every_public_future_has_a_driver_and_every_driven_one_exists() {
    let sources = sources();
    assert!(sources.len() > 20, "the sources are not where this looks for them");
    let found: BTreeSet<String> = sources
        .iter()
        .flat_map(|(path, text)| futures_of(&module(path), text))
        .map(|(name, _)| name)
        .collect();
    let driven: BTreeSet<String> =
        DRIVERS.iter().flat_map(|driver| driver.drives).map(|path| (*path).to_owned()).collect();
    let undriven: Vec<_> = found.difference(&driven).collect();
    let gone: Vec<_> = driven.difference(&found).collect();
    assert!(undriven.is_empty(), "public futures without a driver: {undriven:?}");
    assert!(gone.is_empty(), "driven, but not in the sources: {gone:?}");
}

#[test]
fn search_finds_public_futures_and_no_others() {
    let text = "
pub async fn top() {}
pub(crate) async fn hidden() {}
// pub async fn commented() {}
pub fn plain(future: impl Future<Output = ()>) -> usize { 0 }
pub fn returns(
    future: u32,
) -> impl Future<Output = ()> + use<>
where
    F: FnOnce() -> u32,
{
}
impl<T> Handle<T>
where
    T: Send,
{
    pub async fn method(&self) {
        async {}
    }
    pub fn boxed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
}
pub struct Wait<'a, T> {}
impl<'a, T> Future for Wait<'a, T> {
impl<T> IntoFuture for Later<T> {
pub struct Later<T>(T);
struct Inner;
impl Future for Inner {
    pub struct Pinned {
impl Future for Pinned {
";
    let found: Vec<_> = futures_of("task", text).into_iter().map(|(name, _)| name).collect();
    let expected = ["top", "returns", "Handle::method", "Handle::boxed", "Wait", "Later", "Pinned"]
        .map(|path| format!("task::{path}"));
    assert_eq!(found, expected);
}

/// The bugs that are planted in the sources.
pub(super) fn planted() -> Vec<String> {
    let mut planted: Vec<String> = sources()
        .iter()
        // The simulator's own files show how it is done.
        .filter(|(path, _)| !path.starts_with("sim"))
        .flat_map(|(_, text)| text.split("mutant!(\"").skip(1).map(until_quote).collect::<Vec<_>>())
        .collect();
    planted.sort_unstable();
    planted.dedup();
    planted
}

fn until_quote(text: &str) -> String {
    text.chars().take_while(|c| *c != '"').collect()
}

/// All files of the library, with their text.
pub(super) fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// The folder of a file, as a path of modules.
pub(super) fn module(file: &Path) -> String {
    let folders = file.parent().into_iter().flatten();
    folders.map(|folder| folder.to_string_lossy().into_owned()).collect::<Vec<_>>().join("::")
}

/// The public futures in a file, each with its code: of the function that makes it, or of its `impl`.
pub(super) fn futures_of<'a>(module: &str, text: &'a str) -> Vec<(String, &'a str)> {
    let mut within = None;
    let mut found = Vec::new();
    for (at, line) in lines(text) {
        let code = line.trim_start();
        if line.starts_with("impl") {
            within = subject(line);
            let (implements, subject) = (line.contains("Future for "), within.unwrap_or_default());
            if implements && is_public(text, subject) {
                found.push((subject.to_owned(), code_from(text, at)));
            }
        } else if line.starts_with('}') {
            within = None;
        }
        let name = match code.strip_prefix("pub async fn ") {
            Some(rest) => Some(word(rest)),
            None => code.strip_prefix("pub fn ").filter(|_| returns_a_future(&text[at..])).map(word),
        };
        if let Some(name) = name {
            let name = within.map_or_else(|| name.to_owned(), |subject| format!("{subject}::{name}"));
            found.push((name, code_from(text, at)));
        }
    }
    let prefix = if module.is_empty() { String::new() } else { format!("{module}::") };
    found.into_iter().map(|(name, code)| (prefix.clone() + &name, code)).collect()
}

/// Returns the code from this line to the brace that ends it, which has the same indentation.
fn code_from(text: &str, at: usize) -> &str {
    let code = &text[at..];
    let indent = &code[..code.len() - code.trim_start().len()];
    let end = code.find(&format!("\n{indent}}}")).unwrap_or(code.len());
    &code[..end]
}

/// Lines with where they begin.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |next, line| {
        let at = *next;
        *next += line.len();
        Some((at, line))
    })
}

/// The type of an `impl`.
fn subject(line: &str) -> Option<&str> {
    let after_for = line.split_once(" for ").map(|(_, subject)| subject);
    let plain = || {
        let rest = line.strip_prefix("impl")?;
        // Past the generics, whose brackets may nest.
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth == 0 && c != '>'
        })?;
        Some(rest[end..].trim_start())
    };
    after_for.or_else(plain).map(word)
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn is_public(text: &str, subject: &str) -> bool {
    let declared = |kind: &str| {
        lines(text)
            .any(|(_, line)| line.trim_start().strip_prefix(kind).is_some_and(|rest| word(rest) == subject))
    };
    declared("pub struct ") || declared("pub enum ")
}

/// Whether the signature that begins here returns something that can be awaited by its own words. A future with a
/// name of its own is found by its `impl`.
fn returns_a_future(text: &str) -> bool {
    let signature = &text[..text.find(['{', ';']).unwrap_or(text.len())];
    let signature = signature.split("where\n").next().unwrap_or_default();
    signature.rsplit_once(") -> ").is_some_and(|(_, returned)| returned.contains("Future"))
}
