//! The socket's place in the file system.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use thiserror::Error;

/// The longest path, in octets: `sun_path` holds 108 with the NUL at the end, and the socket is
/// bound under its name with a dot and a process number of up to 7 digits behind it.
const MAX_PATH: usize = 108 - 1 - 8;

/// Why the config socket could not be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another process listens on it.
    #[error(
        "{0}: another process already listens on this socket; stop it or choose another path with \
         --config-socket"
    )]
    InUse(PathBuf),
    /// The path is something else than a socket.
    #[error(
        "{0}: exists and is not a socket; remove it or choose another path with --config-socket"
    )]
    NotASocket(PathBuf),
    /// No socket can have a path of this length.
    #[error(
        "{path}: {octets} octets are too many for the path of a socket, {MAX_PATH} are allowed; \
         choose a shorter one with --config-socket"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in octets.
        octets: usize,
    },
    /// The system refused.
    #[error(
        "{path}: cannot {what}: {error}; run as root, or give another path with --config-socket, \
         or none"
    )]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Listens at `path` with the given permissions. A socket left behind by a process that is gone is
/// replaced.
pub(super) fn listen(path: &Path, mode: u32) -> Result<(UnixListener, Place), SocketError> {
    let io = |what| {
        move |error| SocketError::Io {
            path: path.to_owned(),
            what,
            error,
        }
    };
    let octets = path.as_os_str().len();
    if octets > MAX_PATH {
        return Err(SocketError::TooLong {
            path: path.to_owned(),
            octets,
        });
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(io("create its directory"))?;
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        // Without waiting: whoever listens may be too busy to accept, and is alive all the same.
        match UnixStream::connect(path).map_err(|error| (error.kind(), error)) {
            Err((ErrorKind::ConnectionRefused | ErrorKind::NotFound, _)) => {}
            Err((ErrorKind::PermissionDenied, error)) => {
                return Err(io("see whether another process listens on it")(error));
            }
            Ok(_) | Err(_) => return Err(SocketError::InUse(path.to_owned())),
        }
    }
    // Bound under another name and renamed once its permissions are right, so that nobody can
    // connect in between. That replaces the socket of a process that is gone.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(io("bind"))?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))
        .map_err(io("set its permissions"))?;
    std::fs::rename(&hidden, path).map_err(io("put it in place"))?;
    let place = Place::of(path).ok_or(ErrorKind::NotFound);
    let place = place.map_err(|kind| io("find it again")(kind.into()))?;
    Ok((listener, place))
}

/// A socket's file, to tell it from another one of that path.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Removes the file, unless it is another one by now: a successor's.
    pub(super) fn remove(&self) {
        let now = Self::of(&self.path);
        if now.is_some_and(|now| (now.device, now.inode) == (self.device, self.inode)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
