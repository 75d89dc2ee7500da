include!("../../09_middleware.rs");

mod tests {
    use motet::middleware::PolicyError;
    use motet::resilience::ErrorKind;
    use motet_testkit::cancel_everywhere;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn request(authenticated: bool) -> Request {
        Request { id: 1, authenticated }
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_processed_only_if_it_is_authenticated() {
        let printed = Printed::begin();
        let application = application(MILLISECOND * 1000);
        assert_eq!(application.call(request(true)).await.unwrap(), "Processed: request 1");
        let refused = application.call(request(false)).await.unwrap_err();
        assert_eq!(refused.to_string(), "unauthorized");
        let expected = [
            (0, "Request 1 started"),
            (100, "Request completed"),
            (100, "Request 1 started"),
            (100, "Request failed: unauthorized"),
        ];
        assert_eq!(printed.timed(), at(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_request_times_out_and_is_logged() {
        let printed = Printed::begin();
        let answer = application(MILLISECOND * 10).call(request(true)).await;
        let error = answer.unwrap_err().downcast::<PolicyError>().expect("it has no time");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(printed.timed().pop(), Some((10, format!("Request failed: {error}"))));
    }

    #[test]
    fn describe_shows_the_middleware_in_order() {
        let order = application(MILLISECOND).describe().to_string();
        assert_eq!(order, "log > watch > timeout (total, within 1ms) > authenticate > business_logic");
    }

    #[test]
    fn dropped_request_is_logged() {
        cancel_everywhere(
            async || Printed::begin(),
            async |_| drop(application(MILLISECOND * 200).call(request(true)).await),
            async |printed, _| {
                let lines = printed.lines();
                match lines.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    [] | ["Request 1 started", "Request completed" | "Request dropped by its caller"] => {}
                    _ => panic!("{lines:?}"),
                }
            },
        );
    }
}
