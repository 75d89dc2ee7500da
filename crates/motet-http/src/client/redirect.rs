//! Redirects: the URL, and the parts of the request that are sent there (RFC 9110, 15.4).

use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    LOCATION, RANGE, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use motet::mutant;
use url::Url;

use super::error::Redirect;
use super::host::Host;
use super::request::Request;
use super::request_line::RequestLine;
use super::{Body, target};

/// Returns `true` if a response is a redirect.
pub(super) fn is_one(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301..=303 | 307 | 308) && headers.contains_key(LOCATION)
}

/// Returns `true` if a header may be sent to another host. Only headers about content are safe: an API key is as often in a
/// custom header as in `Authorization`.
fn goes_elsewhere(name: &HeaderName) -> bool {
    const SAFE: [HeaderName; 7] =
        [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, RANGE, TRANSFER_ENCODING, USER_AGENT];
    name.as_str().starts_with("content-") || SAFE.contains(name)
}

/// Returns the request that follows a redirect.
///
/// After 303, and after 301 or 302 of a `POST`, it is a `GET` without a body, as in browsers. Only safe headers are sent to
/// another host.
///
/// `request` must contain all headers, including the headers of the client.
pub(super) fn follow(request: &mut Request, status: StatusCode, headers: &HeaderMap) -> Result<(), Redirect> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(Redirect::NoTarget)?;
    let from = Url::parse(&request.uri().to_string()).map_err(|_| Redirect::NoTarget)?;
    let to =
        from.join(location).ok().and_then(|to| target::requestable(to).ok()).ok_or(Redirect::NoTarget)?;
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(Redirect::Downgrade);
    }
    let becomes_get = match status.as_u16() {
        303 => *request.method() != Method::HEAD,
        301 | 302 => *request.method() == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.body = Body::empty();
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
            request.headers.remove(name);
        }
    } else if request.body.as_bytes().is_none() {
        return Err(Redirect::BodyIsGone);
    }
    let uri = target::to_uri(&to).map_err(|_| Redirect::NoTarget)?;
    let mut other_host = Host::of(&uri) != Host::of(request.uri());
    if mutant!("http.keep_credentials") {
        other_host = false;
    }
    if other_host {
        let others: Vec<_> = request.headers.keys().filter(|name| !goes_elsewhere(name)).cloned().collect();
        others.into_iter().for_each(|name| drop(request.headers.remove(name)));
    }
    let method = if becomes_get { Method::GET } else { request.method().clone() };
    request.line = Arc::new(RequestLine { method, uri });
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, COOKIE, HOST};

    use super::*;

    fn request(method: Method, body: Body) -> Request {
        let mut request = Request::new(method, "https://a.example/v1/x?y=1".parse().unwrap());
        request.body = body;
        for (name, value) in [(AUTHORIZATION, "Bearer me"), (COOKIE, "me=1"), (CONTENT_TYPE, "text/plain")] {
            request.headers.insert(name, value.parse().unwrap());
        }
        request
    }

    fn go(mut request: Request, status: u16, location: &str) -> Result<Request, Redirect> {
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        assert!(is_one(status, &headers));
        follow(&mut request, status, &headers).map(|()| request)
    }

    #[test]
    fn redirect_status_and_method_decide_the_next_method_and_body() {
        for (status, method, becomes) in [
            (301, Method::POST, Method::GET),
            (302, Method::POST, Method::GET),
            (303, Method::PUT, Method::GET),
            (303, Method::HEAD, Method::HEAD),
            (301, Method::PUT, Method::PUT),
            (307, Method::POST, Method::POST),
            (308, Method::POST, Method::POST),
        ] {
            let next = go(request(method.clone(), Body::from("data")), status, "/elsewhere").unwrap();
            let keeps_body = *next.method() == method && method != Method::HEAD;
            assert_eq!(*next.method(), becomes, "{status} {method}");
            assert_eq!(next.body.as_bytes().unwrap().is_empty(), !keeps_body && method != Method::HEAD);
            assert_eq!(next.headers.contains_key(CONTENT_TYPE), *next.method() == method);
        }
    }

    #[test]
    fn redirect_keeps_credentials_only_for_the_same_host_and_port() {
        let same = go(request(Method::GET, Body::empty()), 302, "../z").unwrap();
        assert_eq!(same.uri(), "https://a.example/z");
        assert!(same.headers.contains_key(AUTHORIZATION) && same.headers.contains_key(COOKIE));
        for elsewhere in ["https://b.example/", "//b.example/", "https://a.example:8443/"] {
            let other = go(request(Method::GET, Body::empty()), 302, elsewhere).unwrap();
            assert!(!other.headers.contains_key(AUTHORIZATION) && !other.headers.contains_key(COOKIE));
        }
    }

    #[test]
    fn redirect_to_another_host_keeps_only_harmless_headers() {
        let mut request = request(Method::POST, Body::from("data"));
        for name in ["x-api-key", "x-forwarded-for", "accept", "user-agent", "content-language"] {
            request.headers.insert(HeaderName::from_static(name), "mine".parse().unwrap());
        }
        request.headers.insert(HOST, "a.example".parse().unwrap());
        let headers = HeaderMap::from_iter([(LOCATION, "https://b.example/".parse().unwrap())]);
        follow(&mut request, StatusCode::TEMPORARY_REDIRECT, &headers).unwrap();
        let mut left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-language", "content-type", "user-agent"]);
    }

    #[test]
    fn unsafe_or_unrepeatable_redirects_are_refused() {
        let go = |body, location| go(request(Method::POST, body), 307, location).unwrap_err();
        assert_eq!(go(Body::empty(), "http://a.example/"), Redirect::Downgrade);
        assert_eq!(go(Body::empty(), "file:///etc/passwd"), Redirect::NoTarget);
        assert_eq!(go(Body::empty(), "https://me:you@b.example"), Redirect::NoTarget);
        let stream = Body::wrap(http_body_util::Empty::new());
        assert_eq!(go(stream, "/elsewhere"), Redirect::BodyIsGone);
    }
}
