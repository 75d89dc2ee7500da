use http::{Method, Uri};

/// What is asked for, and where: shared by a request and all that tells of it, its answer and its errors.
#[derive(Debug, Clone)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) uri: Uri,
}
