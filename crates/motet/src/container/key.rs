//! The key of a provider: a type, and optionally a tag; and the value that it identifies.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Named;
use crate::task::Name;

/// A type that can be injected, with or without a tag.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    id: TypeId,
    of: &'static str,
    tag: Option<&'static str>,
}

impl Key {
    /// The tag `()` means no tag.
    pub(crate) fn of<Tag: 'static, T: ?Sized + 'static>() -> Self {
        if TypeId::of::<Tag>() == TypeId::of::<()>() {
            Self { id: TypeId::of::<T>(), of: type_name::<T>(), tag: None }
        } else {
            Self { id: id_named::<Tag, T>(), of: type_name::<T>(), tag: Some(type_name::<Tag>()) }
        }
    }

    pub(crate) fn id(&self) -> TypeId {
        self.id
    }

    /// The full name of the type, without its tag.
    pub(crate) fn type_name(&self) -> &'static str {
        self.of
    }

    pub(crate) fn is_tagged(&self) -> bool {
        self.tag.is_some()
    }

    /// The name for messages, without module paths. It is part of the program's text unless the type has parameters.
    pub(crate) fn name(&self) -> Name {
        match (self.tag, plain(self.of)) {
            (None, Some(name)) => Name::from(name),
            _ => Name::from(self.to_string()),
        }
    }

    /// The name with all paths in full.
    pub(crate) fn full(&self) -> String {
        match self.tag {
            Some(tag) => format!("Named<{tag}, {}>", self.of),
            None => self.of.to_owned(),
        }
    }
}

pub(crate) fn id_named<Tag: 'static, T: ?Sized + 'static>() -> TypeId {
    TypeId::of::<Named<Tag, T>>()
}

/// The name without module paths, such as `Named<Replica, Pool>`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            Some(tag) => write!(f, "Named<{}, {}>", short(tag), short(self.of)),
            None => f.write_str(&short(self.of)),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// An `Arc<T>` whose type only its key knows. The box contains the `Arc` itself, since `T` may be a trait object.
#[derive(Clone)]
pub(crate) struct Value(Arc<dyn Any + Send + Sync>);

impl Value {
    pub(crate) fn new<T: ?Sized + Send + Sync + 'static>(value: Arc<T>) -> Self {
        Self(Arc::new(value))
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self) -> Option<&Arc<T>> {
        self.0.downcast_ref()
    }

    /// # Panics
    /// If the value is of another type, which its key excludes.
    pub(crate) fn arc<T: ?Sized + Send + Sync + 'static>(&self) -> Arc<T> {
        Arc::clone(self.get().expect("a key identifies values of its own type"))
    }
}

/// Removes the path from the name of a type without parameters. Returns `None` for other types.
fn plain(name: &'static str) -> Option<&'static str> {
    let is_path = name.bytes().all(|byte| is_word(byte) || byte == b':');
    is_path.then(|| name.rsplit("::").next().unwrap_or(name))
}

/// Braces belong to a path, too: `main::{{closure}}::Pool` is declared inside of an `async fn`. Bytes that are not ASCII belong
/// to an identifier.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'{' | b'}' | b'#' | 0x80..)
}

/// Removes the module paths from the name of a type: `Option<alloc::string::String>` becomes `Option<String>`.
pub(crate) fn short(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = String::with_capacity(name.len());
    // The start of the current word, which is written once it is known not to be part of a path.
    let (mut word, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"::") {
            at += 2;
            word = at;
            continue;
        }
        let byte = bytes[at];
        at += 1;
        if !is_word(byte) {
            out.push_str(&name[word..at]);
            word = at;
        }
    }
    out.push_str(&name[word..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_drops_the_paths_and_keeps_the_brackets() {
        for (full, expected) in [
            ("u8", "u8"),
            ("app::db::Pool", "Pool"),
            ("Option<app::main::{{closure}}::Pool>", "Option<Pool>"),
            ("dyn app::Repo", "dyn Repo"),
            (
                "core::result::Result<a::B, alloc::boxed::Box<dyn c::D + core::marker::Send>>",
                "Result<B, Box<dyn D + Send>>",
            ),
            ("(a::B, &c::D)", "(B, &D)"),
            ("größe::Größe<fn(a::Ä) -> b::Ö>", "Größe<fn(Ä) -> Ö>"),
            ("[a::B; 3]", "[B; 3]"),
            ("a::B::", ""),
            ("dyn for<'a> Fn(&'a x::Y)", "dyn for<'a> Fn(&'a Y)"),
        ] {
            assert_eq!(short(full), expected);
            assert!(plain(full).is_none_or(|name| name == expected));
        }
    }
}
