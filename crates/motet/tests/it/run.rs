//! The process around a program: signals and exit codes.
//!
//! The programs are this binary itself, started anew: see [`this_binary_runs_the_program_that_the_environment_names`].
#![cfg(unix)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::future::pending;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use motet::App;
use motet::run::Root;
use motet::task::{CancelToken, Nursery};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = "MOTET_PROGRAM_OF_THESE_TESTS";

/// The `main` of the programs that the tests start. If the environment names no program, it starts one.
#[test]
fn this_binary_runs_the_program_that_the_environment_names() {
    let Ok(program) = std::env::var(PROGRAM) else {
        return assert_eq!(Program::start("seven").end().0, Some(7));
    };
    let code = match program.as_str() {
        "server" => server(),
        "blocked" => motet::run(async |_: &Nursery<Infallible>| {
            say("ready");
            park();
            Ok(())
        }),
        "fails" => motet::run(async |root: &Nursery<Broken>| {
            root.try_spawn("http", async { Err::<(), _>(Broken(None)) });
            pending::<()>().await;
            Ok(())
        }),
        "fails itself" => motet::run(async |_| Err::<(), _>(Broken(Some(fmt::Error)))),
        "panics" => motet::run(async |root: &Nursery<Infallible>| {
            root.spawn("hot", async { panic!("too hot") });
            pending::<()>().await;
            Ok(())
        }),
        "reloads" => App::new().reload_on_hangup().run(async |app: &Root<Infallible>| {
            let mut reloads = app.reloads();
            say("ready");
            for _ in 0..2 {
                reloads.recv().await;
                say("reloaded");
            }
            Ok(())
        }),
        "current thread" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            App::new().run_on(runtime, async |app: &Root<Infallible>| {
                let own = std::thread::current().id();
                let same = app.spawn("same", async move { std::thread::current().id() == own });
                say(&format!("ready, on the same thread: {}", same.await.unwrap()));
                pending::<()>().await;
                Ok(())
            })
        }
        "systemd" => server_with(|app| app.ready()),
        "seven" => motet::run(async |_: &Nursery<Infallible>| Ok(ExitCode::from(7))),
        "ends" => motet::run(async |_: &Nursery<Infallible>| Ok(())),
        "stuck" => App::new().name("stuck").total(Duration::ZERO).grace(Duration::from_secs(600)).run(
            async |root: &Root<&str>| {
                root.spawn_coop("deaf", async |_| pending::<()>().await);
                Err::<(), _>("broken")
            },
        ),
        "hog" => App::new().name("hog").phase("drain", Duration::ZERO).total(Duration::ZERO).run(
            async |root: &Root<&str>| {
                let (began, begun) = tokio::sync::oneshot::channel();
                root.spawn("hog", async {
                    began.send(()).unwrap();
                    park();
                });
                begun.await.unwrap();
                Err::<(), _>("broken")
            },
        ),
        "fails later" => motet::run(async |_: &Nursery<&str>| {
            say("ready");
            tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
            Err::<(), _>("broken")
        }),
        "busy" => motet::run(async |root: &Nursery<Infallible>| {
            for _ in 0..tokio::runtime::Handle::current().metrics().num_workers() {
                root.spawn("busy", async { park() });
            }
            say("ready");
            park();
            Ok(())
        }),
        "chatty" => server_with(|_| {
            // Until the pipe is full.
            std::thread::spawn(|| {
                loop {
                    eprintln!("a line of a log");
                }
            });
        }),
        "blocked, child fails" | "blocked, member fails" => {
            App::new().name("blocked").phase("drain", Duration::ZERO).total(Duration::ZERO).run(
                async |root: &Root<&str>| {
                    let broken = async { Err::<(), _>("broken") };
                    if program == "blocked, child fails" {
                        root.try_spawn("child", broken);
                    } else {
                        root.in_phase("drain").try_service("member", broken);
                    }
                    park();
                    Ok(())
                },
            )
        }
        "does not begin" => {
            writeln!(motet::run::stderr(), "error: no configuration").unwrap();
            ExitCode::FAILURE
        }
        other => panic!("there is no program `{other}`"),
    };
    let code = (0..=u8::MAX).find(|number| code == ExitCode::from(*number)).expect("a code is a byte");
    exit(code.into());
}

/// Blocks its thread until the process ends.
fn park() {
    while std::hint::black_box(true) {
        std::thread::park();
    }
}

fn server() -> ExitCode {
    server_with(|_| ())
}

fn server_with(set_up: fn(&Root<Infallible>)) -> ExitCode {
    let app =
        App::new().name("server").phase("drain", Duration::from_secs(600)).total(Duration::from_secs(600));
    app.run(async |app: &Root<Infallible>| {
        app.in_phase("drain").service_coop("http", async |cx: CancelToken| {
            say(&format!("draining: {}", cx.cancelled().await));
            // Until the test closes the pipe, or sends the next signal.
            tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
            say("drained");
        });
        // Until the service waits: only then is it on the list that a dump prints.
        while !motet::observe::snapshot().is_some_and(|tree| tree.to_string().contains("`http`")) {
            tokio::task::yield_now().await;
        }
        set_up(app);
        say("ready");
        pending::<()>().await;
        Ok(())
    })
}

#[derive(Debug)]
struct Broken(Option<fmt::Error>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|cause| cause as _)
    }
}

/// Past the harness, which would capture it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[allow(clippy::exit, reason = "stands for the return from `main`")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// A running program.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Program {
    fn start(name: &str) -> Self {
        Self::under(name, &[])
    }

    /// Starts it by another command.
    fn under(name: &str, command: &[&str]) -> Self {
        let mut words: Vec<OsString> = command.iter().map(OsString::from).collect();
        words.push(std::env::current_exe().unwrap().into());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(["--exact", "run::this_binary_runs_the_program_that_the_environment_names", "--nocapture"])
            .env(PROGRAM, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    fn ready(name: &str) -> Self {
        let mut program = Self::start(name);
        wait_for(&mut program.out, "ready");
        program
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, and what it printed to the standard error.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.child.stdin.take());
        let mut printed = String::new();
        self.err.read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that has these words.
fn wait_for(pipe: &mut impl BufRead, words: &str) -> String {
    let mut all = String::new();
    for line in pipe.lines() {
        let line = line.unwrap();
        if line.contains(words) {
            return line;
        }
        all.push_str(&line);
        all.push('\n');
    }
    panic!("it never said `{words}`, but:\n{all}");
}

#[test]
fn sigterm_or_sigint_lets_the_program_drain() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut program = Program::ready("server");
        program.signal(signal);
        let draining = wait_for(&mut program.out, "draining");
        assert_eq!(draining, format!("draining: the program is shutting down: {name}"));
        drop(program.child.stdin.take());
        wait_for(&mut program.out, "drained");
        let (code, printed) = program.end();
        assert_eq!(code, Some(0), "{printed}");
        assert!(!printed.contains("shutdown of"), "{printed}");
    }
}

/// Those of the first second belong to the first one.
#[test]
fn repeated_interrupt_ends_the_process_at_once() {
    let mut program = Program::ready("server");
    // It drains until this is closed, as waiting for it would do.
    let _drains = program.child.stdin.take();
    program.signal(Signal::TERM);
    wait_for(&mut program.out, "draining");
    assert_eq!(interrupted_to_death(&mut program), Some(130));
    let printed = wait_for(&mut program.err, "again");
    assert_eq!(printed, "SIGINT again: the process ends at once");
}

/// As `timeout(1)` and shells send them: to the process and to its group, a moment apart.
#[test]
fn signals_within_a_second_are_one_request_to_stop() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let mut program = Program::ready("server");
        program.signal(first);
        wait_for(&mut program.out, "draining");
        program.signal(second);
        drop(program.child.stdin.take());
        wait_for(&mut program.out, "drained");
        let (code, printed) = program.end();
        assert_eq!(code, Some(0), "{printed}");
    }
}

/// However late: a control signal of another kind shows that the program has taken each of them.
#[test]
fn second_sigterm_does_not_shorten_the_shutdown() {
    let mut program = Program::ready("server");
    program.signal(Signal::TERM);
    wait_for(&mut program.out, "draining");
    let begin = tokio::time::Instant::now();
    // Past the second in which any signal belongs to the first.
    while begin.elapsed() < Duration::from_millis(1_500) {
        program.signal(Signal::TERM);
        program.signal(Signal::USR1);
        wait_for(&mut program.err, "http");
    }
    drop(program.child.stdin.take());
    wait_for(&mut program.out, "drained");
    let (code, printed) = program.end();
    assert_eq!(code, Some(0), "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn hangup_stops_the_program_unless_ignored_at_start() {
    let mut program = Program::under("server", &["env", "--default-signal=HUP"]);
    wait_for(&mut program.out, "ready");
    program.signal(Signal::HUP);
    let draining = wait_for(&mut program.out, "draining");
    assert_eq!(draining, "draining: the program is shutting down: SIGHUP");
    assert_eq!(program.end().0, Some(0));

    let mut program = Program::under("server", &["env", "--ignore-signal=HUP"]);
    wait_for(&mut program.out, "ready");
    program.signal(Signal::HUP);
    program.signal(Signal::USR1);
    wait_for(&mut program.err, "http");
    program.signal(Signal::TERM);
    let draining = wait_for(&mut program.out, "draining");
    assert_eq!(draining, "draining: the program is shutting down: SIGTERM");
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn hangup_requests_a_reload_if_the_program_takes_it_for_that() {
    for command in [&["env", "--default-signal=HUP"], &["env", "--ignore-signal=HUP"]] {
        let mut program = Program::under("reloads", command);
        wait_for(&mut program.out, "ready");
        for _ in 0..2 {
            program.signal(Signal::HUP);
            wait_for(&mut program.out, "reloaded");
        }
        assert_eq!(program.end().0, Some(0));
    }
}

#[test]
fn program_runs_on_a_current_thread_runtime_without_io() {
    let mut program = Program::start("current thread");
    assert_eq!(wait_for(&mut program.out, "ready"), "ready, on the same thread: true");
    program.signal(Signal::USR1);
    wait_for(&mut program.err, "scope `app`");
    program.signal(Signal::TERM);
    assert_eq!(program.end().0, Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_notified_of_readiness_and_of_the_stop() {
    let folder = std::env::temp_dir().join(format!("motet-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let notice = || {
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let mut program = Program::under("systemd", &["env", &variable]);
    assert_eq!(notice(), "READY=1");
    wait_for(&mut program.out, "ready");
    program.signal(Signal::TERM);
    assert_eq!(notice(), "STOPPING=1");
    assert_eq!(program.end().0, Some(0));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A task whose first poll does not end.
#[test]
fn program_that_gives_up_names_only_the_task_that_never_yields() {
    let (code, printed) = Program::start("hog").end();
    assert_eq!(code, Some(124), "{printed}");
    assert!(printed.contains("stuck: `hog`"), "{printed}");
    for own in ["end of work", "dumps", "task `drain`"] {
        assert!(!printed.contains(own), "a task of the library is shown: {printed}");
    }
}

#[test]
fn repeated_interrupt_ends_a_program_whose_body_blocks() {
    assert_eq!(interrupted_to_death(&mut Program::ready("blocked")), Some(130));
}

/// Interrupts until it ends: those of the first second count as one.
fn interrupted_to_death(program: &mut Program) -> Option<i32> {
    loop {
        program.signal(Signal::INT);
        if let Some(status) = program.child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::yield_now();
    }
}

#[test]
fn repeated_interrupt_ends_a_program_with_all_workers_blocked() {
    assert_eq!(interrupted_to_death(&mut Program::ready("busy")), Some(130));
}

#[test]
fn repeated_interrupt_ends_a_program_with_closed_or_full_stderr() {
    for name in ["server", "chatty"] {
        let mut program = Program::ready(name);
        if name == "server" {
            let (closed, _) = std::io::pipe().unwrap();
            program.err = BufReader::new(ChildStderr::from(std::os::fd::OwnedFd::from(closed)));
        }
        program.signal(Signal::TERM);
        wait_for(&mut program.out, "draining");
        assert_eq!(interrupted_to_death(&mut program), Some(130), "{name}");
    }
}

#[test]
fn error_exits_with_1_despite_a_closed_standard_error() {
    let mut program = Program::ready("fails later");
    let (closed, _) = std::io::pipe().unwrap();
    program.err = BufReader::new(ChildStderr::from(std::os::fd::OwnedFd::from(closed)));
    assert_eq!(program.end().0, Some(1));
}

#[test]
fn last_message_of_a_main_that_returns_before_run_is_written() {
    for _ in 0..20 {
        let (code, printed) = Program::start("does not begin").end();
        assert_eq!((code, printed.as_str()), (Some(1), "error: no configuration\n"));
    }
}

#[test]
fn failure_beside_a_blocked_body_ends_the_program() {
    for name in ["blocked, child fails", "blocked, member fails"] {
        let (code, printed) = Program::start(name).end();
        assert_eq!(code, Some(124), "{name}: {printed}");
    }
}

#[test]
fn sigusr1_dumps_the_tasks_and_the_program_runs_on() {
    let mut program = Program::ready("server");
    program.signal(Signal::USR1);
    let line = wait_for(&mut program.err, "http");
    assert!(line.contains("task `http`") && line.contains("(crates/motet/tests/it/run.rs:"), "{line}");
    program.signal(Signal::TERM);
    wait_for(&mut program.out, "draining");
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn exit_code_and_standard_error_tell_how_the_program_ended() {
    let table = [
        ("ends", 0, ""),
        ("seven", 7, ""),
        ("fails", 1, "error: task `http` failed: broken\n"),
        ("fails itself", 1, "error: broken: an error occurred when formatting an argument\n"),
        ("panics", 101, "too hot"),
        ("stuck", 124, "stuck: `deaf`"),
        ("stuck", 124, "error: broken\n"),
    ];
    for (name, expected, words) in table {
        let (code, printed) = Program::start(name).end();
        assert_eq!(code, Some(expected), "{name}: {printed}");
        assert!(printed.contains(words), "{name}: {printed}");
    }
}
