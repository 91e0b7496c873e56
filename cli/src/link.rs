//! One connection to tmm.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use config::client::{Request, Response};

use crate::args::Global;
use crate::error::Error;

/// How long tmm may take to answer, if nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest line taken from tmm, in octets: an object of the greatest size, and its state.
const MAX_LINE: usize = 32 * 1024 * 1024;

/// One connection to tmm.
pub struct Link {
    reader: BufReader<UnixStream>,
    /// What has come of the next line.
    line: Vec<u8>,
    path: PathBuf,
    timeout: Duration,
    /// The socket's own timeout, so as not to set it for each of a million rows.
    read_timeout: Option<Duration>,
}

impl Link {
    /// Connects.
    pub fn open(global: &Global) -> Result<Self, Error> {
        Self::open_within(global, global.timeout.unwrap_or(PATIENCE))
    }

    /// Connects, and lets tmm take up to `timeout` for each answer.
    pub fn open_within(global: &Global, timeout: Duration) -> Result<Self, Error> {
        let path = global.socket.clone();
        let fail = |source| Error::Connect {
            path: path.clone(),
            source,
        };
        // A listener that accepts nothing makes connect wait for ever, and a Unix socket's connect
        // has no timeout of its own.
        let (sender, receiver) = mpsc::channel();
        let target = path.clone();
        std::thread::spawn(move || sender.send(UnixStream::connect(target)));
        let stream = match receiver.recv_timeout(timeout) {
            Ok(connected) => connected.map_err(fail)?,
            Err(_) => {
                return Err(Error::Silent { path, timeout });
            }
        };
        stream.set_write_timeout(Some(timeout)).map_err(fail)?;
        Ok(Self {
            reader: BufReader::new(stream),
            line: Vec::new(),
            path,
            timeout,
            read_timeout: None,
        })
    }

    /// Sends a request. What tmm says when it does not want more is for [`Link::receive`] to tell.
    pub fn send(&mut self, request: &Request) -> Result<(), Error> {
        let sent = self
            .reader
            .get_mut()
            .write_all(request_line(request).as_bytes());
        match sent {
            Err(error) if is_timeout(&error) => Err(self.silent()),
            // A refusal may be there to be read.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The sending side, for a thread of its own: tmm stops reading while its answers are not
    /// read, so whoever sends much must not do it between reads.
    pub fn sender(&self) -> Result<UnixStream, Error> {
        let stream = self.reader.get_ref().try_clone();
        let stream = stream.map_err(|source| Error::Connect {
            path: self.path.clone(),
            source,
        })?;
        // However long tmm takes, the reading side is the one that gives up.
        let _ = stream.set_write_timeout(None);
        Ok(stream)
    }

    /// The next line.
    ///
    /// Errors: tmm is gone, has been silent for the timeout, or says something else.
    pub fn receive(&mut self) -> Result<Response, Error> {
        match self.read(Some(self.timeout))? {
            Some(response) => Ok(response),
            None => Err(self.silent()),
        }
    }

    /// The next line, however long it takes.
    pub fn receive_at_leisure(&mut self) -> Result<Response, Error> {
        loop {
            if let Some(response) = self.read(None)? {
                return Ok(response);
            }
        }
    }

    /// The next line, or nothing once it is `deadline`.
    pub fn receive_until(&mut self, deadline: Instant) -> Result<Option<Response>, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        self.read(Some(left))
    }

    fn read(&mut self, timeout: Option<Duration>) -> Result<Option<Response>, Error> {
        // A timeout of zero is refused by the system.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        if timeout != self.read_timeout {
            let set = self.reader.get_ref().set_read_timeout(timeout);
            set.map_err(|error| self.lost(error.to_string()))?;
            self.read_timeout = timeout;
        }
        loop {
            let piece = match self.reader.fill_buf() {
                Ok(piece) => piece,
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(error.to_string())),
            };
            if piece.is_empty() {
                return Err(self.lost("it has stopped, or has had enough of us".to_owned()));
            }
            let end = piece.iter().position(|&octet| octet == b'\n');
            let taken = end.map_or(piece.len(), |end| end + 1);
            self.line
                .extend_from_slice(piece.get(..taken).unwrap_or(piece));
            self.reader.consume(taken);
            if self.line.len() > MAX_LINE {
                return Err(self.protocol("a line without end".to_owned()));
            }
            if end.is_some() {
                let response = serde_json::from_slice(&self.line);
                self.line.clear();
                return response
                    .map(Some)
                    .map_err(|error| self.protocol(error.to_string()));
            }
        }
    }

    fn silent(&self) -> Error {
        Error::Silent {
            path: self.path.clone(),
            timeout: self.timeout,
        }
    }

    fn lost(&self, why: String) -> Error {
        Error::Lost {
            path: self.path.clone(),
            why,
        }
    }

    /// The error for a line that is out of place.
    pub fn protocol(&self, why: String) -> Error {
        Error::Protocol {
            path: self.path.clone(),
            why,
        }
    }

    /// The error for a response that is none to what was asked, if it is not a refusal.
    pub fn unexpected(&self, response: Response) -> Error {
        match response {
            Response::Answer(answer) if !answer.errors.is_empty() => Error::Refused(answer.errors),
            other => self.protocol(format!("unexpected {}", other.to_line().trim_end())),
        }
    }
}

/// A thread that still sends is told to stop.
impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A request as a line.
pub fn request_line(request: &Request) -> String {
    // Serialising these types to memory cannot fail: no maps with keys that are not strings.
    let mut line = serde_json::to_string(request).unwrap_or_default();
    line.push('\n');
    line
}
