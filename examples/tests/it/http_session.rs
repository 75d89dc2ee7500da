include!("../../07_http_session.rs");

mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn every_event_is_fetched_in_order() {
        assert_eq!(with_server(async |base| events(&base).await).await.unwrap(), ["pushed", "forked"]);
    }

    #[tokio::test]
    async fn failed_session_returns_its_error() {
        let failed = with_server(async |base| {
            with_session(&base, async |session| session.get("/nothing").fetch().await).await
        });
        let error = failed.await.unwrap_err().into_error().unwrap();
        assert_eq!(error.status().unwrap(), 404);
    }

    #[tokio::test]
    async fn connection_closes_when_its_session_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        // The server never answers: the session ends when its future is dropped.
        let session = with_session(&base, async |session| session.get("/").fetch().await);
        let mut session = Box::pin(session);
        let (mut connection, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = &mut session => panic!("no server answers"),
        };
        drop(session);
        motet::drain().await;
        let mut request = Vec::new();
        // The read ends, since the client has closed the connection.
        drop(connection.read_to_end(&mut request).await);
    }
}
