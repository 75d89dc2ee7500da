//! Checks of the machine: the disk, the clock, the limit of open files, the certificates.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statfs, statvfs};
use rustix::process::{Resource, geteuid, getrlimit};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::parse_x509_certificate;

use super::Finding;
use crate::clock::{Clock, millis};
use crate::config::Config;
use crate::{store, tls};

/// A check of the machine, which may block.
type Check = fn(&Config) -> Vec<Finding>;

pub(super) const CHECKS: [(&str, Check); 6] = [
    ("data directory", directory),
    ("disk", disk),
    ("clock", clock),
    ("open files", open_files),
    ("certificate", certificate),
    ("trusted certificates", trusted),
];

const GB: u64 = 1_000_000_000;

fn directory(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let directory = &config.data;
    let shown = directory.display();
    let Ok(found) = fs::metadata(directory) else {
        let parent = existing_parent(directory);
        if !parent.is_dir() || access(&parent, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let detail = format!("{shown} does not exist, and cannot be created in {}", parent.display());
            return vec![Finding::error(
                CHECK,
                detail,
                "create it as the user of relay, or name another one with --data",
            )];
        }
        return vec![Finding::good(CHECK, format!("{shown} does not exist yet; the first start creates it"))];
    };
    let mut findings = Vec::new();
    if access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let detail = format!("{shown} cannot be written by this user");
        findings.push(Finding::error(CHECK, detail, "run doctor and relay as the owner of the directory"));
    }
    let owner = found.uid();
    if geteuid().is_root() && owner != 0 {
        let detail = format!("{shown} belongs to user {owner}, and doctor runs as root");
        findings.push(Finding::warning(
            CHECK,
            detail,
            format!("run doctor as the user of relay: runuser -u '#{owner}' -- .."),
        ));
    }
    if found.permissions().mode() & 0o077 != 0 {
        let detail = format!("other users can read {shown}");
        findings.push(Finding::warning(CHECK, detail, format!("chmod 700 {shown}")));
    }
    if let Some(kind) = remote_file_system(directory) {
        let detail = format!("{shown} is on a network file system ({kind})");
        let action = "use a local disk: SQLite cannot trust the locks of a network file system";
        findings.push(Finding::error(CHECK, detail, action));
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, format!("{shown} is local and belongs to this user alone")));
    }
    findings
}

/// The nearest parent that exists.
fn existing_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|parent| parent.exists()).unwrap_or_else(|| Path::new("/")).to_owned()
}

/// The kind of a file system that is not local. Source: statfs(2).
fn remote_file_system(path: &Path) -> Option<&'static str> {
    match statfs(path).ok()?.f_type {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x5346_414f => Some("afs"),
        0x0102_1997 => Some("9p"),
        _ => None,
    }
}

fn disk(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let parent = existing_parent(&config.data);
    let Ok(disk) = statvfs(&parent) else {
        let detail = format!("the file system of {} cannot be examined", parent.display());
        return vec![Finding::error(CHECK, detail, "look at the log of the system")];
    };
    let (free, size) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    let detail = format!("{} of {} GB are free", tenths(free), tenths(size));
    let action = "keep events for a shorter time (--rows-keep), set --max-bytes, or enlarge the disk";
    let mut findings = vec![if free < GB / 4 {
        Finding::error(CHECK, detail, action)
    } else if free < 2 * GB || free < size / 20 {
        Finding::warning(CHECK, detail, action)
    } else {
        Finding::good(CHECK, detail)
    }];
    let log = config.data.join("relay.db-wal");
    let bytes = fs::metadata(log).map_or(0, |found| found.len());
    if bytes > GB / 4 {
        let detail = format!("the log of the store has {} GB", tenths(bytes));
        let action = "a slow disk or a long read keeps relay from moving it into the database; if it goes on to grow, \
                      restart relay";
        findings.push(Finding::warning(CHECK, detail, action));
    }
    findings
}

/// Gigabytes with one decimal.
fn tenths(bytes: u64) -> String {
    let tenths = bytes / (GB / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn clock(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "clock";
    /// No release of relay is older.
    const EARLIEST: &str = "2026-01-01T00:00:00Z";
    let now = Clock::new().wall();
    let earliest = EARLIEST.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    if now < earliest {
        let detail = format!("the clock shows a time before {EARLIEST}");
        return vec![Finding::error(CHECK, detail, "set the clock; install systemd-timesyncd or chrony")];
    }
    // A store that no process has open has no shared memory, and opening it would create files of this user.
    let seen =
        if config.data.join("relay.db-shm").exists() { store::seen_time_in(&config.data) } else { None };
    match seen {
        Some(seen) if seen > now + millis(Duration::from_secs(5)) => {
            let behind = (seen - now) / 1_000;
            let detail = format!("the clock is {behind} s behind the time that the store has reached");
            let action = "set the clock; relay continues from the time of the store";
            vec![Finding::warning(CHECK, detail, action)]
        }
        _ => vec![Finding::good(CHECK, "the clock is not behind the store")],
    }
}

fn open_files(_: &Config) -> Vec<Finding> {
    const CHECK: &str = "open files";
    const ENOUGH: u64 = 8_192;
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < ENOUGH => {
            let detail = format!("the limit of open files is {limit}");
            let action =
                format!("each connection is an open file: set LimitNOFILE={ENOUGH} or more in the unit");
            vec![Finding::warning(CHECK, detail, action)]
        }
        Some(limit) => vec![Finding::good(CHECK, format!("the limit of open files is {limit}"))],
        None => vec![Finding::good(CHECK, "open files are not limited")],
    }
}

fn certificate(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    const SOON: i64 = 14;
    let Some(files) = config.certificate() else {
        let is_open = !config.listen.ip().is_loopback();
        return if is_open {
            let detail = format!("the API is plain HTTP on {}", config.listen);
            vec![Finding::warning(
                CHECK,
                detail,
                "set --tls-cert and --tls-key, or put a TLS proxy before relay",
            )]
        } else {
            vec![Finding::good(CHECK, "the API is plain HTTP on loopback")]
        };
    };
    if let Err(error) = tls::check(&files) {
        return vec![Finding::error(
            CHECK,
            error.to_string(),
            "correct the files; relay does not start with them",
        )];
    }
    let days = fs::read(&files.certificate).ok().as_deref().and_then(days_left);
    let renew = "renew it; relay reads the new files without a restart";
    vec![match days {
        None => Finding::warning(CHECK, "the date of its expiry cannot be read", renew),
        Some(days) if days < 0 => Finding::error(CHECK, "it has expired", renew),
        Some(days) if days < SOON => Finding::warning(CHECK, format!("it expires in {days} days"), renew),
        Some(days) => Finding::good(CHECK, format!("it is valid for {days} days")),
    }]
}

/// Number of days until the first certificate of a chain expires.
fn days_left(pem: &[u8]) -> Option<i64> {
    let first = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, certificate) = parse_x509_certificate(&first).ok()?;
    let left = certificate.validity().not_after.timestamp() - Clock::new().wall() / 1_000;
    Some(left.div_euclid(24 * 60 * 60))
}

fn trusted(_: &Config) -> Vec<Finding> {
    const CHECK: &str = "trusted certificates";
    let found = rustls_native_certs::load_native_certs().certs.len();
    vec![if found == 0 {
        let action = "install ca-certificates: without them no delivery over HTTPS succeeds";
        Finding::error(CHECK, "the system has no trusted certificates", action)
    } else {
        Finding::good(CHECK, format!("the system trusts {found} authorities"))
    }]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().join("data"), Config::DEFAULT_LISTEN.parse().unwrap());
        change(&mut config);
        (folder, config)
    }

    #[test]
    fn directory_of_others_and_without_a_parent_is_found() {
        let (_folder, config) = with(|_| {});
        assert_eq!(directory(&config)[0].level, Level::Good);
        fs::create_dir(&config.data).unwrap();
        fs::set_permissions(&config.data, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(directory(&config).iter().any(|finding| finding.detail.starts_with("other users can read")));
        fs::set_permissions(&config.data, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(directory(&config).iter().all(|finding| finding.level == Level::Good));
        let (_folder, config) = with(|config| config.data = "/dev/null/data".into());
        assert_eq!(directory(&config)[0].level, Level::Error);
    }

    #[test]
    fn certificate_that_expires_soon_is_found() {
        let (folder, mut config) = with(|_| {});
        let path = |name: &str| folder.path().join(name);
        (config.tls_cert, config.tls_key) = (Some(path("certificate.pem")), Some(path("key.pem")));
        assert_eq!(certificate(&config)[0].level, Level::Error, "there are no files");
        let now = Clock::new().wall() / 1_000;
        for (days, level) in [(-1, Level::Error), (5, Level::Warning), (90, Level::Good)] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            let expiry = jiff::Timestamp::from_second(now + days * 86_400 + 60).unwrap();
            let date = expiry.to_zoned(jiff::tz::TimeZone::UTC).date();
            let [month, day] = [date.month(), date.day()].map(|part| u8::try_from(part).unwrap());
            params.not_after = rcgen::date_time_ymd(date.year().into(), month, day);
            fs::write(path("certificate.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(path("key.pem"), key.serialize_pem()).unwrap();
            assert_eq!(certificate(&config)[0].level, level, "{days}");
        }
    }

    #[test]
    fn plain_http_beyond_loopback_is_a_warning() {
        let (_folder, config) = with(|_| {});
        assert_eq!(certificate(&config)[0].level, Level::Good);
        let (_folder, config) = with(|config| config.listen = "0.0.0.0:80".parse().unwrap());
        assert_eq!(certificate(&config)[0].level, Level::Warning);
    }
}
