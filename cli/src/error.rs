//! Why a command could not be carried out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use config::FieldError;
use thiserror::Error;

use crate::units;

/// Why a command could not be carried out, and what to do about it.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no way to tmm.
    #[error("{}", connect_message(.path, .source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// tmm is there but silent.
    #[error(
        "tmm has not answered on {} within {}; is it overloaded or stopped? (--timeout gives it \
         longer)", .path.display(), units::time(*.timeout)
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
    },
    /// tmm has closed the connection.
    #[error("tmm has closed the connection on {}: {why}", .path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// What came is no line of the protocol.
    #[error(
        "{}: what answers does not speak tmm's protocol ({why}); is it tmm's config socket, and \
         of the same release as tmmctl?", .path.display()
    )]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// tmm says no to the request as a whole.
    #[error("{}", sentences(.0))]
    Refused(Vec<FieldError>),
    /// A file of `-f`.
    #[error(transparent)]
    Read(#[from] config::document::ReadError),
    /// Standard input.
    #[error("cannot read {name}: {source}")]
    Input {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The result could not be written.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
}

fn connect_message(path: &std::path::Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no socket {path}; is tmm running? (--socket or TMM_CONFIG_SOCKET says where \
             its config socket is)"
        ),
        io::ErrorKind::ConnectionRefused => format!(
            "nothing listens on {path}; is tmm running? (the file is what an earlier tmm left, or \
             no socket at all)"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no permission to use {path}: it belongs to the user tmm runs as; use that user or \
             root (sudo tmmctl …)"
        ),
        _ => format!("cannot connect to {path}: {error}"),
    }
}

fn sentences(errors: &[FieldError]) -> String {
    let all: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    all.join("; ")
}
