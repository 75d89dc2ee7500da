use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::task::Scope;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A connection of a server that follows its script.
pub(crate) struct Connection<S = TcpStream> {
    stream: BufReader<S>,
    /// Counts from 0.
    pub(crate) number: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, number: usize) -> Self {
        Self { stream: BufReader::new(stream), number }
    }

    /// Reads the head of a request; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return None,
            }
        }
        Some(String::from_utf8(head).unwrap())
    }

    /// Reads a request, its body included; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<String> {
        let mut text = self.head().await?;
        let length =
            text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).await.ok()?;
        text.push_str(std::str::from_utf8(&body).unwrap());
        Some(text)
    }

    /// Writes, as long as the client is there.
    pub(crate) async fn try_write(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes()).await
    }

    /// Writes; a client that is gone is none of the script's business.
    pub(crate) async fn write(&mut self, text: &str) {
        let _gone = self.try_write(text).await;
    }

    /// Answers with a body of its true length.
    pub(crate) async fn answer(&mut self, status_and_headers: &str, body: &str) {
        let length = body.len();
        self.write(&format!("HTTP/1.1 {status_and_headers}\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    }

    /// Returns the stream, behind the bytes that were read.
    pub(crate) fn into_inner(self) -> S {
        self.stream.into_inner()
    }

    /// Waits until the other side has closed it.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while !matches!(self.stream.read(&mut rest).await, Ok(0) | Err(_)) {}
    }
}

impl Connection {
    /// Closes it with a reset.
    pub(crate) fn reset(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }
}

/// Serves by a script for each connection; gives the base URL, and how many connections there were.
pub(crate) async fn scripted<F, Fut>(n: &Scope, script: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(Connection) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, scope) = (Arc::clone(&connections), n.clone());
    let serving = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, Ordering::SeqCst);
            drop(scope.service("script", script(Connection::new(stream, number))));
        }
    };
    drop(n.service("scripted server", serving).unwrap());
    (base, connections)
}
