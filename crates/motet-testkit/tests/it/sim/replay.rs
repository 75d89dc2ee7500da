//! Replays of a reported seed, in a separate process, as a reader would start them.

use std::process::{Command, Output};

use motet_testkit::sim::sim;

/// Runs one of the two tests below that fail on purpose, as `cargo test` would.
fn probe(name: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sim::replay::{name}"), "--test-threads=2"])
        .env_remove("MOTET_SEED")
        .env_remove("MOTET_RUNS")
        .env("MOTET_PROBE", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The two tests below fail on purpose, so they do nothing in an ordinary run.
fn is_probed() -> bool {
    std::env::var_os("MOTET_PROBE").is_some()
}

#[test]
fn rare_failure_runs_only_if_motet_probe_is_set() {
    if is_probed() {
        sim(|| async {
            let drawn = motet::sim::choice(std::num::NonZeroUsize::new(16).unwrap());
            motet::sometimes!(drawn == Some(99), "out of range");
            motet::always!(drawn != Some(3), "no three");
        })
        .seeds(100)
        .run();
    }
}

#[test]
fn endless_poll_runs_only_if_motet_probe_is_set() {
    if is_probed() {
        sim(|| async {
            super::work("spinner", async {
                loop {
                    std::hint::spin_loop();
                }
            })
            .await
            .unwrap();
        })
        .poll_limit(std::time::Duration::from_millis(200))
        .run();
    }
}

#[test]
fn replay_line_repeats_the_failure() {
    let first = said(&probe("rare_failure_runs_only_if_motet_probe_is_set", &[]));
    let line = first.lines().find_map(|line| line.strip_prefix("replay: MOTET_SEED=")).expect(&first);
    let (seed, command) = line.split_once(' ').unwrap();
    assert_eq!(command, "cargo test sim::replay::rare_failure_runs_only_if_motet_probe_is_set");
    let again = said(&probe("rare_failure_runs_only_if_motet_probe_is_set", &[("MOTET_SEED", seed)]));
    let trace = |said: &str| {
        let lines: Vec<_> =
            said.lines().skip_while(|line| !line.starts_with("last ")).map(str::to_owned).collect();
        lines.into_iter().take_while(|line| !line.starts_with("replay")).collect::<Vec<_>>()
    };
    assert!(trace(&first).len() > 3, "{first}");
    assert_eq!(trace(&first), trace(&again));
    assert!(again.contains(&format!("seed {seed}, run 1 of 1, at 0ns of virtual time")), "{again}");
}

#[test]
fn run_of_one_seed_passes_with_a_sometimes_never_true() {
    let passes = |seed: u32| {
        probe("rare_failure_runs_only_if_motet_probe_is_set", &[("MOTET_SEED", &seed.to_string())])
            .status
            .success()
    };
    assert!((0..5).any(passes));
}

#[test]
fn environment_sets_the_number_of_runs() {
    // One of 100 runs fails; a few runs may all pass, and the sweep reports the `sometimes!` that it has not seen.
    let says = |runs: u32, words: &str| {
        said(&probe("rare_failure_runs_only_if_motet_probe_is_set", &[("MOTET_RUNS", &runs.to_string())]))
            .contains(words)
    };
    assert!(says(100, "of 100, at 0ns of virtual time"));
    assert!((1..10).any(|runs| says(runs, "never true in any run: `out of range`")));
}

#[test]
fn invalid_seed_in_the_environment_is_explained() {
    let output = probe("rare_failure_runs_only_if_motet_probe_is_set", &[("MOTET_SEED", "seventeen")]);
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("MOTET_SEED is `seventeen`, not a whole number"), "{said}");
}

#[test]
fn poll_that_never_returns_fails_with_the_name_of_its_task() {
    let output = probe("endless_poll_runs_only_if_motet_probe_is_set", &[]);
    assert!(!output.status.success());
    let said = said(&output);
    assert!(
        said.contains("a poll of `spinner`, spawned at") && said.contains("has not returned for 200ms"),
        "{said}"
    );
}
