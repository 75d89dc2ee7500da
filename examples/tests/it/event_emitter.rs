include!("../../10_event_emitter.rs");

mod tests {
    use std::future::pending;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    const MAIL: &str = "alice@example.com";

    /// Runs `body` with an emitter.
    async fn with_emitter(body: impl AsyncFnOnce(Emitter)) {
        scope(async |n: &Nursery| {
            body(Emitter::new(n)).await;
            Ok(())
        })
        .await
        .expect("no child can fail");
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_run_concurrently_and_the_service_awaits_them() {
        let printed = Printed::begin();
        with_emitter(async |emitter| {
            let _subscriptions = listen(&emitter);
            create_user(&emitter, "Alice", MAIL).await;
        })
        .await;
        let mut lines = printed.timed();
        // Listeners are called in no stated order.
        lines[1..3].sort();
        let expected = [
            (0, "Creating user: Alice"),
            (100, "New user Alice"),
            (100, "Sending welcome email to alice@example.com"),
            (200, "Activity logged for Alice"),
            (300, "Welcome email sent to alice@example.com"),
            (300, "User created: Alice"),
        ];
        assert_eq!(lines, at(expected));
    }

    /// Python's `gather(return_exceptions=True)` drops every error.
    #[tokio::test(start_paused = true)]
    async fn error_of_a_listener_is_reported() {
        let printed = Printed::begin();
        with_emitter(async |emitter| {
            let _subscriptions = listen(&emitter);
            create_user(&emitter, "Bob", "nowhere").await;
        })
        .await;
        let lines = printed.lines();
        assert!(lines.contains(&"Activity logged for Bob".to_owned()), "the other listener ran: {lines:?}");
        assert_eq!(lines[lines.len() - 2..], ["listener `welcome email` failed", "User created: Bob"]);
    }

    /// In Python, `off` raises for a callback that is not registered. Here a listener cannot be removed twice.
    #[tokio::test(start_paused = true)]
    async fn listener_that_is_off_is_not_called() {
        let printed = Printed::begin();
        with_emitter(async |emitter| {
            let [email, log, console] = listen(&emitter);
            email.off();
            drop(console);
            let emitted = emitter.emit(UserCreated { name: "Alice", email: MAIL }).await;
            emitted.expect("it is open").into_result().expect("no listener fails");
            // The emitter removes the rest.
            drop(emitter);
            assert!(!log.is_on());
            log.off();
        })
        .await;
        assert_eq!(printed.lines(), ["Activity logged for Alice"]);
    }

    /// In Python, `emit` waits for a hanging listener without end.
    #[tokio::test(start_paused = true)]
    async fn hanging_listener_delays_the_service_only_to_its_timeout() {
        let printed = Printed::begin();
        scope(async |n: &Nursery| {
            let emitter = Emitter::builder(n).timeout(Duration::from_secs(1)).build();
            let _hangs = emitter.on_async("hangs", |_: Arc<UserCreated>| pending::<()>());
            let _subscriptions = listen(&emitter);
            create_user(&emitter, "Alice", MAIL).await;
            Ok(())
        })
        .await
        .expect("no child can fail");
        assert_eq!(printed.elapsed(), Duration::from_millis(1_100));
        let lines = printed.lines();
        assert!(lines.contains(&format!("Welcome email sent to {MAIL}")));
        assert_eq!(lines[lines.len() - 2..], ["listener `hangs` took longer than 1s", "User created: Alice"]);
    }
}
