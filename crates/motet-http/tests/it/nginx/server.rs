use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;

/// An nginx of one test, in a folder of its own, on ports that were free. It ends when dropped.
pub(super) struct Nginx {
    child: Child,
    folder: TempDir,
    pub(super) base: String,
    pub(super) secure_base: String,
}

impl Nginx {
    /// Serves what stands in `http`, of which `@PLAIN@` and `@SECURE@` are the ports, and these files.
    pub(super) fn start(http: &str, files: &[(&str, &str)]) -> Self {
        let program = find();
        // Between the look for a free port and its use another may have it.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                fs::write(folder.path().join(name), content).unwrap();
            }
            let (plain, secure) = (free_port(), free_port());
            let http = http.replace("@PLAIN@", &plain.to_string()).replace("@SECURE@", &secure.to_string());
            fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), &http)).unwrap();
            if let Some(child) = run(&program, folder.path()) {
                let base = format!("http://127.0.0.1:{plain}");
                return Self { child, folder, base, secure_base: format!("https://localhost:{secure}") };
            }
        }
        panic!("nginx does not start: what it said is above");
    }

    /// The lines of its log of requests.
    pub(super) fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    /// Waits until the log has this number of lines: a line follows its response.
    pub(super) async fn log_of(&self, requests: usize) -> Vec<String> {
        while self.log().len() < requests {
            sleep(Duration::from_millis(5)).await;
        }
        self.log()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A single process, which ends when it is killed.
fn configuration(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr notice;
        events {{ worker_connections 256; }}
        http {{
            log_format plain '$request_method $uri $status';
            access_log {folder}/access.log plain;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            root {folder}; default_type text/plain;
            {http}
        }}"
    )
}

/// Where `cargo xtask test` looks for it too, and puts it where there is none.
fn find() -> PathBuf {
    let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let others = ["/usr/sbin".into(), root.join("target/test-tools/nginx/usr/sbin")];
    let programs = in_path.into_iter().chain(others).map(|folder| folder.join("nginx"));
    programs.into_iter().find(|program| program.is_file()).expect(
        "there is no nginx: `cargo xtask test` unpacks one; otherwise, on Debian: apt-get install nginx",
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns it when its sockets are open, or `None` if they cannot be opened.
fn run(program: &Path, folder: &Path) -> Option<Child> {
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder);
    let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // It logs its event method when it has opened its sockets.
    while log.read_line(&mut line).unwrap() > 0 {
        if line.contains("event method") {
            // Read on, so that it does not end up waiting for us.
            std::thread::spawn(move || log.lines().count());
            return Some(child);
        }
        if line.contains("[emerg]") {
            print(&line);
        }
        line.clear();
    }
    child.wait().unwrap();
    None
}

#[allow(clippy::print_stderr, reason = "it is shown with the failure of the test")]
fn print(line: &str) {
    eprint!("{line}");
}
