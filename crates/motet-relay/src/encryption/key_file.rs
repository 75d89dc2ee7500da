//! The key file: where it is, who may read it, and how it is created.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::SecretKeys;
use crate::config::KeySource;
use crate::error::KeyFileError;

/// The variable in which systemd names the directory of a unit's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The name of the credential.
const CREDENTIAL: &str = "relay-keys";

/// A key file has a line of about 50 bytes for each key.
const MAX_BYTES: u64 = 64 << 10;

/// Permissions that a key file must not give: all of the group and of others.
const FOREIGN: u32 = 0o077;

/// Permissions that a credential must not give. systemd may create a credential as 0440 with an entry for the unit's
/// user, and the directory is accessible to that user only.
const FOREIGN_CREDENTIAL: u32 = 0o037;

/// The path of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocatedKeyFile {
    /// The file exists, or was named by the operator.
    At(PathBuf),
    /// There is none: a new one would have this path.
    Missing(PathBuf),
}

/// Reads a key file. `data` is the data directory.
pub(crate) fn read(path: &Path, data: &Path) -> Result<SecretKeys, KeyFileError> {
    // Without waiting: to open a pipe waits for its writer.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    check(&file, path, data)?;
    // With its whole capacity: a text that grows would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
    (&mut file).take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(KeyFileError::TooLarge);
    }
    SecretKeys::parse(&text)
}

/// Returns the path of the key file of a store; `None` if secrets are stored in clear text.
pub(crate) fn locate(source: &KeySource, data: &Path) -> Option<LocatedKeyFile> {
    match source {
        KeySource::Plaintext => None,
        KeySource::File(path) => Some(LocatedKeyFile::At(path.clone())),
        KeySource::Auto => {
            let credential = env::var_os(CREDENTIALS).map(|directory| Path::new(&directory).join(CREDENTIAL));
            if let Some(path) = credential.filter(|path| path.exists()) {
                return Some(LocatedKeyFile::At(path));
            }
            let beside = beside(data);
            // A dangling link is a file that cannot be read, and no missing file.
            let exists = fs::symlink_metadata(&beside).is_ok();
            Some(if exists { LocatedKeyFile::At(beside) } else { LocatedKeyFile::Missing(beside) })
        }
    }
}

/// Returns the path beside a data directory: its name with `.keys`.
fn beside(data: &Path) -> PathBuf {
    let mut path = data.to_owned().into_os_string();
    path.push(".keys");
    path.into()
}

/// Checks who may read the open file, and where it is.
fn check(file: &File, path: &Path, data: &Path) -> Result<(), KeyFileError> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(KeyFileError::NotAFile);
    }
    let path = fs::canonicalize(path)?;
    let is_credential = env::var_os(CREDENTIALS)
        .and_then(|directory| fs::canonicalize(directory).ok())
        .is_some_and(|directory| path.starts_with(directory));
    let mode = found.mode() & 0o7777;
    if mode & (if is_credential { FOREIGN_CREDENTIAL } else { FOREIGN }) != 0 {
        return Err(KeyFileError::Mode { mode });
    }
    let own = rustix::process::geteuid().as_raw();
    // A command that root runs reads the file of relay's user.
    if own != 0 && found.uid() != own && found.uid() != 0 {
        return Err(KeyFileError::Owner { uid: found.uid() });
    }
    // A backup or a copy of the directory would contain the keys.
    if path.starts_with(fs::canonicalize(data)?) {
        return Err(KeyFileError::InData);
    }
    Ok(())
}

/// Creates a key file with a random key, which must not exist. The file is on the disk when the function returns.
///
/// # Errors
/// [`KeyFileError::Mount`] if the data directory is a mount point: its parent may be replaced together with the machine,
/// while the data stays.
pub(crate) fn create(path: &Path, data: &Path) -> Result<(), KeyFileError> {
    let parent = path.parent().ok_or(KeyFileError::Mount)?;
    if fs::metadata(parent)?.dev() != fs::metadata(data)?.dev() || path.starts_with(data) {
        return Err(KeyFileError::Mount);
    }
    let text = SecretKeys::generate().map_err(|error| io::Error::other(error.to_string()))?;
    // Under another name until it is whole, because a part of a key file would keep relay from starting. The mode is 0600.
    let mut file = tempfile::Builder::new().prefix(".relay-keys-").tempfile_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(File::open(parent)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A data directory below a temporary directory.
    struct Place {
        directory: tempfile::TempDir,
        data: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            fs::create_dir(&data).unwrap();
            Self { directory, data }
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, &**SecretKeys::generate().unwrap()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    #[test]
    fn created_key_file_is_read_by_its_owner_only() {
        let place = Place::new();
        let Some(LocatedKeyFile::Missing(path)) = locate(&KeySource::Auto, &place.data) else { panic!() };
        assert_eq!(path, place.directory.path().join("data.keys"));
        create(&path, &place.data).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let first = read(&path, &place.data).unwrap();
        // An existing file is not replaced.
        assert!(matches!(create(&path, &place.data), Err(KeyFileError::Io(_))));
        let again = read(&path, &place.data).unwrap();
        assert_eq!(first.first_id(), again.first_id());
        assert_eq!(locate(&KeySource::Auto, &place.data), Some(LocatedKeyFile::At(path)));
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 2, "a temporary file is left");
    }

    #[test]
    fn key_file_that_others_may_read_is_refused() {
        let place = Place::new();
        for mode in [0o644, 0o640, 0o620, 0o604, 0o601] {
            let refused = read(&place.file("keys", mode), &place.data);
            let is_refused = matches!(refused, Err(KeyFileError::Mode { mode: found }) if found == mode);
            assert!(is_refused, "{mode:o} {refused:?}");
        }
        for mode in [0o600, 0o400] {
            assert!(read(&place.file("keys", mode), &place.data).is_ok(), "{mode:o}");
            fs::remove_file(place.directory.path().join("keys")).unwrap();
        }
    }

    #[test]
    fn key_file_in_the_data_directory_is_refused() {
        let place = Place::new();
        let inside = place.file("data/keys", 0o600);
        assert!(matches!(read(&inside, &place.data), Err(KeyFileError::InData)));
        // The directory by another name.
        let link = place.directory.path().join("link");
        std::os::unix::fs::symlink(&place.data, &link).unwrap();
        assert!(matches!(read(&inside, &link), Err(KeyFileError::InData)));
        assert!(matches!(read(&link.join("keys"), &place.data), Err(KeyFileError::InData)));
    }

    #[test]
    fn key_file_that_is_no_file_or_too_large_is_refused() {
        let place = Place::new();
        assert!(matches!(read(&place.data, &place.data), Err(KeyFileError::NotAFile)));
        let pipe = place.directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert!(matches!(read(&pipe, &place.data), Err(KeyFileError::NotAFile)));
        let large = place.file("large", 0o600);
        fs::write(&large, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(matches!(read(&large, &place.data), Err(KeyFileError::TooLarge)));
        let missing = place.directory.path().join("missing");
        assert!(matches!(read(&missing, &place.data), Err(KeyFileError::Io(_))));
    }
}
