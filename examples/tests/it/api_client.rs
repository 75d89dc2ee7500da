include!("../../15_api_client.rs");

mod tests {
    use motet::task::{Either, race};

    use super::*;

    #[tokio::test]
    async fn users_are_fetched_five_at_once_and_a_missing_one_is_a_404() {
        let load = Load::default();
        let done = with_server(load.clone(), async |scope, base| {
            let api = client(scope, base);
            let users = gather((0..10).map(|id| fetch(&api, id))).await;
            for (id, user) in (0..).zip(users) {
                match user {
                    Ok(user) => assert_eq!(user, format!("user {id}")),
                    Err(error) => assert_eq!((id, error.status()), (7, Some(StatusCode::NOT_FOUND))),
                }
            }
        });
        done.await.unwrap();
        assert_eq!(load.most.load(SeqCst), 5);
    }

    #[tokio::test]
    async fn posted_user_comes_back_renamed() {
        let done = with_server(Load::default(), async |scope, base| {
            assert_eq!(rename(&client(scope, base), 1, "Ada").await.unwrap(), "ADA");
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn dropped_callers_free_their_slots() {
        let done = with_server(Load::default(), async |scope, base| {
            let api = client(scope, base);
            for polls in 0..40 {
                // The call is dropped after this number of polls.
                let patience = async {
                    for _ in 0..polls {
                        tokio::task::yield_now().await;
                    }
                };
                if let Either::Left(fetched) = race(fetch(&api, 1), patience).await {
                    fetched.unwrap();
                }
            }
            assert_eq!(api.stats().in_flight, 0);
            assert!(gather((0..5).map(|id| fetch(&api, id))).await.iter().all(Result::is_ok));
        });
        done.await.unwrap();
    }
}
