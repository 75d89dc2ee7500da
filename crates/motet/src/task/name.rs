use std::fmt;
use std::sync::Arc;

/// The name of a task, a scope or a component.
///
/// A `&'static str` is kept without an allocation; a `String` is stored once and shared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Repr);

// Two words, since every task has a name. `Arc<String>` is a thin pointer: it fits into the second word, while a null in
// the first word, which a `&str` never has, marks the variant.
#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<String>),
}

const _: () = assert!(size_of::<Name>() == 16);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Repr {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl PartialEq for Repr {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Repr {}

impl std::hash::Hash for Repr {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(Repr::Static(name))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(Repr::Shared(Arc::new(name)))
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Control characters are escaped: a name may be input from outside, and a line feed or an escape sequence in it could forge
/// lines of a snapshot or a log.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(self.as_str(), f)
    }
}

/// Writes a text with its control characters escaped.
pub(crate) fn write_escaped(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = text;
    while let Some((at, control)) = rest.char_indices().find(|(_, letter)| letter.is_control()) {
        f.write_str(&rest[..at])?;
        write!(f, "{}", control.escape_default())?;
        rest = &rest[at + control.len_utf8()..];
    }
    f.write_str(rest)
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
