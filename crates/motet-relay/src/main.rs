//! The `motet-relay` program.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use listenfd::ListenFd;
use motet::App;
use motet::run::Root;
use motet::task::{Nursery, ReasonKind, Scope};
use motet_relay::{
    BackupArgs, CheckArgs, Cli, Command, CommandError, CommandLine, Config, ConfigArgs, DemoArgs, DoctorArgs,
    EraseArgs, GenerateArgs, ImportArgs, KeyArgs, LogFormat, RekeyArgs, Relay, RestoreArgs, RetentionArgs,
    ServeArgs, Settings, SettingsError, reload_on_request, run_backup_command, run_check_command,
    run_config_command, run_demo, run_doctor_command, run_erase_command, run_generate_command,
    run_import_command, run_key_command, run_rekey_command, run_restore_command, run_retention_command,
    start_log,
};

/// An error that ends the program; it is printed with its causes.
type MainError = Box<dyn Error + Send + Sync>;

/// The exit code of wrong arguments, as clap has it.
const USAGE: u8 = 2;

/// The exit code of a program that was ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// How long a stopped import may finish the requests in flight, and print its report.
const IMPORT_GRACE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let (command, settings) = match CommandLine::parse() {
        Ok(line) => line.into_parts(),
        Err(SettingsError::Arguments(error)) => error.exit(),
        Err(error) => return usage(&error),
    };
    let (filter, format) = match &command {
        Command::Serve(serve) => serve.log(),
        _ => (None, LogFormat::Text),
    };
    let default = match command {
        Command::Serve(_) => "info",
        Command::Key(_)
        | Command::Rekey(_)
        | Command::Import(_)
        | Command::Backup(_)
        | Command::Check(_)
        | Command::Restore(_)
        | Command::Config(_)
        | Command::Doctor(_)
        | Command::Generate(_)
        | Command::Retention(_)
        | Command::Erase(_) => "warn",
        Command::Demo(_) | Command::RotateKey(_) => "error",
    };
    start_log(filter, default, format);
    // The default hook would wait for standard error.
    std::panic::set_hook(Box::new(log_panic));
    match command {
        Command::Serve(args) => serve(*args, &settings),
        Command::Demo(args) => demo(&args),
        Command::Key(args) => key(&args),
        Command::Rekey(args) => rekey(&args),
        Command::Import(args) => import(&args),
        Command::Backup(args) => backup(&args),
        Command::Check(args) => check(&args),
        Command::Restore(args) => restore(&args),
        Command::Config(args) => config(args, &settings),
        Command::Retention(args) => retention(&args),
        Command::Erase(args) => erase(&args),
        Command::Doctor(args) => doctor(args),
        Command::Generate(args) => generate(&args),
        Command::RotateKey(_) => rotate_key(),
    }
}

/// Logs a panic, with a backtrace if `RUST_BACKTRACE` is set.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("(the payload is not text)");
    let location = panic.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    tracing::error!(thread, location, backtrace, "panicked: {message}");
}

fn serve(args: ServeArgs, settings: &Settings) -> ExitCode {
    let mut config = Config::from(args);
    match ListenFd::from_env().take_tcp_listener(0) {
        Ok(inherited) => config.listener = inherited.map(Arc::new),
        Err(error) => {
            tracing::error!(%error, "the socket that systemd passes on cannot be used; it must be a stream of IP");
            return ExitCode::FAILURE;
        }
    }
    for unknown in settings.unknown_variables() {
        tracing::warn!("in the environment, {unknown}");
    }
    if let Some(file) = settings.file() {
        tracing::info!(file = %file.display(), "settings were read from a file");
    }
    let mut app = Relay::app(&config);
    if settings.file().is_some() {
        app = app.reload_on_hangup();
    }
    let settings = settings.clone();
    app.run(async |app: &Root<MainError>| {
        let data = config.data.display().to_string();
        let is_https = config.tls_cert.is_some();
        let relay = Relay::start(config, app).await?;
        let address = relay.address();
        if let Some(key) = relay.new_api_key() {
            print(&format!(
                "\nThis is the API key. It is shown once and stored hashed; `motet-relay key create` creates further keys.\n\n    {key}\n\n"
            ))?;
        }
        if settings.file().is_some() {
            let (requests, reloader, scope) = (app.reloads(), relay.reloader(), Scope::clone(app));
            app.service("settings", async move {
                // An error means that relay shuts down.
                let _ended = reload_on_request(requests, &scope, settings, reloader).await;
            });
        }
        let scheme = if is_https { "https" } else { "http" };
        tracing::info!(%address, data, "relay is ready; the page is at {scheme}://{address}/");
        app.ready();
        relay.serve(app).await
    })
}

fn demo(args: &DemoArgs) -> ExitCode {
    let cut_short = Arc::new(AtomicBool::new(false));
    let app = App::new().name("demo").on_report({
        let cut_short = Arc::clone(&cut_short);
        move |report| cut_short.store(report.reason.kind() == ReasonKind::Shutdown, Ordering::Relaxed)
    });
    let code = app.run(async |_: &Root<MainError>| {
        let report = run_demo(&args.into()).await?;
        print(&if args.json() { format!("{}\n", report.json()) } else { report.table() })?;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    // A script that waits for the demo must not take an interrupted demo for a successful one.
    if cut_short.load(Ordering::Relaxed) { ExitCode::from(INTERRUPTED) } else { code }
}

fn key(args: &KeyArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_key_command(args, write_out).await?))
}

fn backup(args: &BackupArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_backup_command(args, write_out).await?))
}

fn restore(args: &RestoreArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_restore_command(args, write_out).await?))
}

fn check(args: &CheckArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| {
        let is_whole = run_check_command(args, write_out).await?;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn rekey(args: &RekeyArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| {
        let is_whole = run_rekey_command(args, write_out).await?;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn import(args: &ImportArgs) -> ExitCode {
    let app = App::new().name("import").body_ends_itself().work(IMPORT_GRACE);
    app.run(async |app: &Root<MainError>| {
        let report = run_import_command(args, app.stopping(), write_out).await?;
        Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
    })
}

fn config(args: ConfigArgs, settings: &Settings) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_config_command(args, settings, write_out)?))
}

fn doctor(args: DoctorArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| {
        let is_fit = run_doctor_command(args, write_out).await?;
        Ok(if is_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn generate(args: &GenerateArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_generate_command(args)?))
}

/// Prints why the settings cannot be used.
fn usage(error: &SettingsError) -> ExitCode {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    // If standard error is closed, the exit code remains.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(USAGE)
}

fn retention(args: &RetentionArgs) -> ExitCode {
    motet::run(async |_: &Nursery<MainError>| Ok(run_retention_command(args, write_out).await?))
}

fn erase(args: &EraseArgs) -> ExitCode {
    let confirmed = confirm(args);
    motet::run(async |_: &Nursery<MainError>| {
        if !confirmed? {
            return Err(CommandError::NotConfirmed.into());
        }
        Ok(run_erase_command(args, write_out).await?)
    })
}

/// Requests a confirmation on the terminal, unless the command line has it. Without a terminal nothing is confirmed.
fn confirm(args: &EraseArgs) -> Result<bool, MainError> {
    if args.is_confirmed() {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print(&args.question())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn rotate_key() -> ExitCode {
    let detail = "`rotate-key` was replaced: `motet-relay key create --scope admin` creates a key, also while relay runs, \
                  and `motet-relay key revoke ID` revokes the old one";
    Cli::command().error(ErrorKind::InvalidSubcommand, detail).exit()
}

/// Writes to standard output. A closed pipe is an error, not a panic.
fn print(text: &str) -> Result<(), MainError> {
    write_out(text).map_err(|error| format!("cannot write to standard output: {error}").into())
}

fn write_out(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}
