use http::{Method, Uri};

/// The method and the URL, shared by a request, its response and its errors.
#[derive(Debug, Clone)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) uri: Uri,
}
