//! The socket's place in the file system.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use thiserror::Error;

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
    /// The system refused.
    #[error("{path}: cannot {what}: {error}")]
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
pub(super) fn listen(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let io = |what| {
        move |error| SocketError::Io {
            path: path.to_owned(),
            what,
            error,
        }
    };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(io("create its directory"))?;
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(io("remove the socket of a process that is gone"))?;
    }
    // Bound under another name and renamed once its permissions are right, so that nobody can
    // connect in between.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(io("bind"))?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))
        .map_err(io("set its permissions"))?;
    std::fs::rename(&hidden, path).map_err(io("put it in place"))?;
    Ok(listener)
}
