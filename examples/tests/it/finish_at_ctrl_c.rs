include!("../../19_finish_at_ctrl_c.rs");

mod tests {
    use std::future::pending;

    use motet::run::ExitOutcome;
    use motet::task::Reason;

    use super::*;
    use crate::Printed;
    use crate::printed::at;

    #[tokio::test(start_paused = true)]
    async fn file_in_copy_at_ctrl_c_is_finished_and_reported() {
        let printed = Printed::begin();
        let ctrl_c = async {
            sleep(Duration::from_millis(1_500)).await;
            Reason::requested("Ctrl-C")
        };
        let finished = app().run_until(ctrl_c, copies).await;
        assert!(matches!(finished.outcome, ExitOutcome::Returned(())) && finished.report.is_clean());
        let expected = [
            (0, "Copying file 1"),
            (1000, "Copying file 2"),
            (2000, "Copied 2 of 10 files: cancelled on request: Ctrl-C"),
        ];
        assert_eq!(printed.timed(), at(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn all_files_are_copied_without_a_ctrl_c() {
        let printed = Printed::begin();
        let finished = app().run_until(pending(), copies).await;
        assert!(matches!(finished.outcome, ExitOutcome::Returned(())));
        assert_eq!(printed.timed().last(), at([(10_000, "Copied all files")]).last());
    }
}
