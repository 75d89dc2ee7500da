//! Joins the base URL and a path to the URL of a request.

use http::Uri;
use http::uri::{Parts, PathAndQuery};
use thiserror::Error;
use url::Url;

use super::{BoxError, Host};

/// The base URL of a client.
#[derive(Debug, Clone)]
pub(super) struct Base {
    url: Url,
    pub(super) host: Host,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidTarget {
    #[error("`{0}` is not an absolute URL, and the client has no base URL")]
    NoBase(String),
    #[error("`{0}` is not a URL")]
    NotAUrl(String),
    #[error("`{0}` is neither http nor https")]
    Scheme(String),
    #[error("the URL contains a user name or a password; send them in a header")]
    Credentials,
    #[error("the base URL has a query or a fragment")]
    MoreThanABase,
    #[error("`{path}` leads out of {base}")]
    Outside { path: String, base: Url },
}

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidTarget> {
        let mut url = absolute(text)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidTarget::MoreThanABase);
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let host = url.as_str().parse().ok().and_then(|uri| Host::of(&uri));
        let host = host.ok_or_else(|| InvalidTarget::NotAUrl(shown(text)))?;
        Ok(Self { url, host })
    }

    /// Returns the URL of a path without special characters, as [`join`](Self::join) would, for a tenth of the price.
    /// Returns `None` for other paths.
    fn join_plain(&self, path: &str) -> Option<Uri> {
        let path = below(path);
        if !is_plain(path) {
            return None;
        }
        let base = self.url.path();
        let mut joined = String::with_capacity(base.len() + path.len());
        joined.push_str(base);
        joined.push_str(path);
        let mut parts = Parts::default();
        parts.scheme = Some(self.host.scheme.clone());
        parts.authority = Some(self.host.authority.clone());
        parts.path_and_query = Some(PathAndQuery::try_from(joined).ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Returns the URL of a path. The result is always below the base: `//elsewhere` and `http://elsewhere` are paths,
    /// too.
    fn join(&self, path: &str) -> Result<Url, InvalidTarget> {
        let base = &self.url;
        let text = format!("{base}{}", below(path));
        let url = Url::parse(&text).map_err(|_| InvalidTarget::NotAUrl(shown(&text)))?;
        if url.path().starts_with(base.path()) {
            Ok(url)
        } else {
            Err(InvalidTarget::Outside { path: shown(path), base: base.clone() })
        }
    }
}

/// Parses the URL of a request.
pub(super) fn resolve(base: Option<&Base>, path: &str) -> Result<Uri, BoxError> {
    let Some(base) = base else { return to_uri(&absolute(path)?) };
    match base.join_plain(path) {
        Some(uri) => Ok(uri),
        None => to_uri(&base.join(path)?),
    }
}

/// Returns the URL of a request whose URL is absolute, or relative to the base URL.
pub(super) fn resolve_uri(base: Option<&Base>, uri: &Uri) -> Result<Uri, BoxError> {
    if uri.scheme().is_none() || uri.authority().is_none() {
        return resolve(base, uri.path_and_query().map_or("/", PathAndQuery::as_str));
    }
    let url = absolute(&uri.to_string())?;
    match base {
        Some(Base { url: base, .. })
            if url.origin() != base.origin() || !url.path().starts_with(base.path()) =>
        {
            Err(InvalidTarget::Outside { path: shown(url.as_str()), base: base.clone() }.into())
        }
        _ => to_uri(&url),
    }
}

fn below(path: &str) -> &str {
    path.trim_start_matches(['/', '\\'])
}

/// Returns `true` if a URL has this path and query exactly as written: without encoding, `..` or a fragment.
fn is_plain(path: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'_' | b'~' | b'/' | b'?' | b'=' | b'&' | b'+' | b',' | b':' | b'@' | b'!' | b'*'
            )
    };
    let mut before = b'/';
    for byte in path.bytes() {
        // A segment that begins with a dot may lead up.
        if !is_plain(byte) && (byte != b'.' || before == b'/') {
            return false;
        }
        before = byte;
    }
    true
}

fn absolute(text: &str) -> Result<Url, InvalidTarget> {
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => InvalidTarget::NoBase(shown(text)),
        _ => InvalidTarget::NotAUrl(shown(text)),
    })?;
    requestable(url)
}

/// The part of a URL that a message may contain: without user name, password, query and fragment.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        // Without a scheme it may be a user, too.
        (None, Some((_, rest))) => format!("..@{rest}"),
        _ => url.to_owned(),
    }
}

/// Refuses URLs that cannot or should not be requested.
pub(super) fn requestable(url: Url) -> Result<Url, InvalidTarget> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidTarget::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidTarget::Credentials);
    }
    Ok(url)
}

/// Removes the fragment, which is never sent.
pub(super) fn to_uri(url: &Url) -> Result<Uri, BoxError> {
    let text = url.as_str();
    Ok(text.split_once('#').map_or(text, |(before, _)| before).parse::<Uri>()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(base: &str, path: &str) -> Result<String, InvalidTarget> {
        Base::parse(base)?.join(path).map(String::from)
    }

    #[test]
    fn path_is_appended_to_the_base() {
        for (base, path, url) in [
            ("http://a.example", "users", "http://a.example/users"),
            ("http://a.example/v1", "/users", "http://a.example/v1/users"),
            ("http://a.example/v1/", "users?page=2", "http://a.example/v1/users?page=2"),
            ("http://a.example/v1", "", "http://a.example/v1/"),
            ("http://a.example/v1", "a b/ä", "http://a.example/v1/a%20b/%C3%A4"),
            ("http://a.example:80/v1", "a/../b", "http://a.example/v1/b"),
        ] {
            assert_eq!(join(base, path).as_deref(), Ok(url));
        }
    }

    #[test]
    fn path_that_would_leave_the_base_stays_below_it_or_is_refused() {
        for path in
            ["http://evil.example/", "//evil.example/", "/\\evil.example", "@evil.example", ":80@evil"]
        {
            let url = join("http://a.example/v1", path).unwrap();
            assert!(url.starts_with("http://a.example/v1/"), "{url}");
        }
        for path in ["../admin", "/..", "a/../../admin", "%2e%2e/admin", "..\\admin"] {
            assert!(
                matches!(join("http://a.example/v1", path), Err(InvalidTarget::Outside { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn absolute_url_of_a_request_is_below_the_base_or_refused() {
        let base = Base::parse("http://a.example/v1").unwrap();
        let resolve = |base, uri: &str| resolve_uri(base, &uri.parse().unwrap()).map(|uri| uri.to_string());
        for (uri, resolved) in [
            ("/users?page=2", "http://a.example/v1/users?page=2"),
            ("http://a.example/v1/users", "http://a.example/v1/users"),
            ("http://A.example:80/v1/", "http://a.example/v1/"),
        ] {
            assert_eq!(resolve(Some(&base), uri).unwrap(), resolved);
        }
        for uri in [
            "https://a.example/v1/users",
            "http://b.example/v1/users",
            "http://a.example:81/v1/users",
            "http://a.example/v1/../admin",
            "/../admin",
            "http://me:secret@a.example/v1/",
        ] {
            let error = resolve(Some(&base), uri).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(resolve(None, "http://b.example/x").unwrap(), "http://b.example/x");
        assert!(resolve(None, "/x").is_err());
    }

    #[test]
    fn message_about_an_invalid_url_has_no_secret() {
        for text in
            ["http://me:secret@[a/x", "http://[a/x?key=secret", "/x?key=secret", "http://a b@c?secret"]
        {
            let error = Base::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let outside = join("http://a.example/v1", "../x?key=secret").unwrap_err().to_string();
        assert_eq!(outside, "`../x` leads out of http://a.example/v1/");
    }

    #[test]
    fn invalid_base_is_refused_with_the_reason() {
        for (base, error) in [
            ("/v1", InvalidTarget::NoBase("/v1".to_owned())),
            ("ftp://a.example", InvalidTarget::Scheme("ftp".to_owned())),
            ("http://me:secret@a.example", InvalidTarget::Credentials),
            ("http://a.example?x=1", InvalidTarget::MoreThanABase),
            ("http://", InvalidTarget::NotAUrl("http://".to_owned())),
            ("//me:secret@a.example", InvalidTarget::NoBase("..@a.example".to_owned())),
        ] {
            assert_eq!(Base::parse(base).unwrap_err(), error);
        }
    }

    /// Plain paths, and nearly plain ones.
    fn paths() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,20}",
            "[a-c./?&=%2eE\\\\:@#;'+~ -]{0,12}",
            "(/|a|b\\.c|\\.|\\.\\.|%2e|\\?|#|;|,|:80|@){0,8}"
        ]
    }

    proptest! {
        #[test]
        fn any_joined_path_stays_below_the_base_and_is_a_uri(path in paths()) {
            if let Ok(url) = Base::parse("http://a.example/v1").unwrap().join(&path) {
                prop_assert!(url.as_str().starts_with("http://a.example/v1/"), "{}", url);
                let uri = to_uri(&url).unwrap();
                prop_assert_eq!(uri.host(), Some("a.example"));
            }
        }

        #[test]
        fn plain_join_gives_the_same_uri_as_the_full_join(base in "http://(a|1\\.2\\.3\\.4|\\[::1\\])(:8080|:80)?(/v1)?/?", path in paths()) {
            let base = Base::parse(&base).unwrap();
            if let Some(uri) = base.join_plain(&path) {
                prop_assert_eq!(uri, to_uri(&base.join(&path).unwrap()).unwrap());
            }
        }
    }

    #[test]
    fn plain_join_refuses_special_characters_and_leading_dots() {
        let base = Base::parse("http://a.example/v1").unwrap();
        for path in ["", "/users/1", "users.json?page=2&of=a.b", "//a//b/", "a:80/@b"] {
            assert!(base.join_plain(path).is_some(), "{path}");
        }
        for path in ["..", "a/../b", "a/.b", ".", "%2e%2e", "a b", "a#b", "ä", "a\\b", "a'b"] {
            assert!(base.join_plain(path).is_none(), "{path}");
        }
    }
}
