include!("../../17_testing.rs");

mod tests {
    use motet_testkit::mock::{after, call, err, ok};
    use motet_testkit::{MockFn, sim};
    use tokio::time::Instant;

    use super::*;

    /// The mock is the client: its arguments are the paths that the service requests.
    type MockClient = MockFn<(String,), Result<User, NotFound>>;

    impl ApiClient for MockClient {
        async fn get(&self, path: String) -> Result<User, NotFound> {
            self.call((path,)).await
        }
    }

    const ALICE: User = User { id: 1, name: "Alice" };
    const BOB: User = User { id: 2, name: "Bob" };
    const DELAY: Duration = Duration::from_millis(100);

    fn paths(ids: impl IntoIterator<Item = u64>) -> Vec<(String,)> {
        ids.into_iter().map(|id| (format!("/users/{id}"),)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn user_is_fetched_once_from_its_path() {
        let get = MockClient::new("get");
        get.script([ok(ALICE)]);
        assert_eq!(AsyncService { client: get.clone() }.user_data(1).await, Ok(ALICE));
        get.assert_called_with(&paths([1]));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_fetch_of_a_user_leaves_the_other_results() {
        let get = MockClient::new("get");
        let not_found = NotFound("/users/3".into());
        get.script([ok(ALICE), err(not_found.clone()), ok(BOB)]);
        let results = AsyncService { client: get.clone() }.process_users(&[1, 3, 2]).await;
        assert_eq!(results, [Ok(ALICE), Err(not_found), Ok(BOB)]);
        get.assert_called_with(&paths([1, 3, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn users_are_fetched_concurrently() {
        let begin = Instant::now();
        let get = MockClient::new("get");
        get.script([after(DELAY, ok(ALICE))]).then_repeat_last();
        let ids: Vec<_> = (0..100).collect();
        assert_eq!(AsyncService { client: get.clone() }.process_users(&ids).await.len(), 100);
        get.assert_max_concurrent(100);
        assert_eq!(begin.elapsed(), DELAY);
    }

    #[test]
    fn results_keep_the_order_of_the_ids_in_any_order_of_answers() {
        sim(|| async {
            let get = MockClient::new("get");
            let delays = [(); 3].map(|()| motet::rng::with(|rng| rng.duration(DELAY..=DELAY * 9)));
            motet::sometimes!(delays.is_sorted(), "answers in the order of the calls");
            motet::sometimes!(delays.is_sorted_by(|a, b| a > b), "answers in the reverse order");
            get.script(
                delays.map(|delay| after(delay, call(async |(path,): (String,)| Directory.get(path).await))),
            );
            let results = AsyncService { client: get.clone() }.process_users(&[1, 2, 3]).await;
            assert_eq!(results, [Ok(ALICE), Ok(BOB), Err(NotFound("/users/3".into()))]);
            get.assert_called_with(&paths([1, 2, 3]));
        })
        .run();
    }
}
