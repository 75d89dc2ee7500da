//! The socket in the data directory, by which commands reach a running relay.
//!
//! The process that owns the files of the store may read and change everything anyway, so its requests need no key.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use motet_http::Listener;
use tokio::net::{UnixListener, UnixStream};

const FILE_NAME: &str = "control.sock";

/// Returns the path of the socket in a data directory.
pub(super) fn path_in(data: &Path) -> PathBuf {
    data.join(FILE_NAME)
}

/// A listening control socket. Its file is removed when it is closed or dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl ControlSocket {
    /// Listens in a data directory, in place of the socket that a killed process has left. The directory must be locked.
    /// Without the socket relay works all the same, so a failure is logged, with its consequence.
    pub(crate) fn bind(data: &Path) -> Option<Self> {
        let path = path_in(data);
        match Self::try_bind(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let remedy = if error.kind() == io::ErrorKind::InvalidInput {
                    "choose a data directory with a shorter path"
                } else {
                    "choose a data directory on a file system with sockets"
                };
                let (path, bytes) = (path.display(), path.as_os_str().len());
                tracing::warn!(
                    %error, %path, bytes,
                    "no control socket: while relay runs, commands such as `key` need --server and --key; or {remedy}"
                );
                None
            }
        }
    }

    fn try_bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("there is a file of this name that is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        let made = fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
        // Until then the mode is that of the process's umask; `is_owner` refuses other users at any time.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }
}

impl Listener for ControlSocket {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if is_owner(&stream) {
                return Ok((stream, None));
            }
        }
    }

    fn close(self, limit: usize) -> Vec<(UnixStream, Option<SocketAddr>)> {
        let Self { listener, file } = self;
        drop(file);
        let mut waiting = Listener::close(listener, limit);
        waiting.retain(|(stream, _)| is_owner(stream));
        waiting
    }
}

/// Returns `true` if the process at the other end runs as the same user as relay, or as root.
fn is_owner(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if may_connect(peer.uid(), rustix::process::geteuid().as_raw()) => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "another user was refused at the control socket");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a client was refused at the control socket: its user is not known");
            false
        }
    }
}

fn may_connect(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// The file of a socket; removed when it is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The directory may have been moved away, and another relay may have its socket at the same path.
        let is_same = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_same && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn socket_replaces_a_stale_one_and_removes_only_its_own_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_in(directory.path());
        // As a killed process leaves it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let mut first = ControlSocket::bind(directory.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), first.accept());
        drop(accepted.unwrap());
        assert_eq!(client.unwrap().read(&mut [0]).await.unwrap(), 0);

        // Another directory is at the same path now.
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let second = ControlSocket::bind(directory.path()).unwrap();
        drop(first);
        assert!(path.exists(), "the first socket removed the file of the second one");
        assert!(second.close(64).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn only_the_user_of_relay_and_root_may_connect() {
        assert!(may_connect(1_000, 1_000) && may_connect(0, 1_000) && may_connect(0, 0));
        assert!(!may_connect(1_001, 1_000) && !may_connect(1_000, 0));
    }

    /// With another user, which only root can become.
    #[tokio::test]
    async fn peer_of_another_user_is_not_accepted() {
        const NOBODY: u32 = 65_534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = path_in(directory.path());
        let mut socket = ControlSocket::bind(directory.path()).unwrap();
        // The file system would refuse the other user as well.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let connect =
            "socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or die; sysread(S, $x, 1)";
        let mut command = std::process::Command::new("perl");
        command.args(["-MSocket", "-e", connect]).arg(&path).uid(NOBODY);
        let Ok(mut stranger) = command.stdin(std::process::Stdio::null()).spawn() else {
            // There is no such program here.
            return;
        };
        let accepting = socket.accept();
        let ended = async {
            // relay closes the connection of the other user, and its `recv` returns.
            loop {
                match stranger.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        match motet::task::race(accepting, ended).await {
            motet::task::Either::Left(_) => panic!("another user was accepted"),
            motet::task::Either::Right(status) => assert!(status.success(), "{status}"),
        }
    }

    #[tokio::test]
    async fn socket_is_left_out_if_it_cannot_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(ControlSocket::bind(&long).is_none());
        fs::write(path_in(directory.path()), "kept").unwrap();
        assert!(ControlSocket::bind(directory.path()).is_none());
        assert_eq!(fs::read(path_in(directory.path())).unwrap(), b"kept");
    }
}
