//! The config socket: a Unix stream socket, any number of feeders and operators' tools up to a
//! bound, served by the control thread itself.
//!
//! Nothing a client does can hold up another or grow memory without bound: input is taken in
//! pieces, and of a piece one request at a time, none while earlier answers wait to be read; a
//! client that lets too much wait all the same is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::FieldError;
use config::client::{Answer, Response, Show};
use config::watch::{Output, Session};
use conntrack::Cursor;
use crossbeam::channel::{Receiver, TryRecvError, bounded};
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use net::Timestamp;
use thiserror::Error;
use tracing::{debug, info, warn};

use super::Control;
use super::show::{Answered, Row};
use crate::command::{Command, FlowDump, FlowFilter, FlowRow};

/// Clients at once.
const MAX_CLIENTS: usize = 64;
/// Octets taken from a client at a time.
const PIECE: usize = 64 * 1024;
/// While this much waits to be written to a client, none of its requests is looked at.
const READ_PAUSE: usize = 256 * 1024;
/// A client that lets this much wait is cut off.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;
/// Rows of connections told when no limit is asked for.
const DEFAULT_ROWS: usize = 10_000;
/// Pieces of a dump that may wait for the control thread.
const DUMP_PIECES: usize = 4;

const LISTENER: Token = Token(usize::MAX);

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

/// A request for connections under way: the workers tell their flows piece by piece.
struct Dump {
    rows: Receiver<Vec<FlowRow>>,
    left: usize,
    told: usize,
}

struct Client {
    stream: UnixStream,
    session: Session,
    /// What was read and is not looked at yet.
    input: Vec<u8>,
    /// How much of it is done with.
    taken: usize,
    output: VecDeque<u8>,
    /// What the session wants done, in order; it waits while a dump is under way.
    todo: VecDeque<Output>,
    dump: Option<Dump>,
    /// The client will send no more.
    half_closed: bool,
    readable: bool,
    interest: Interest,
}

/// The socket and its clients.
pub struct Server {
    poll: Poll,
    events: Events,
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<usize, Client>,
    next_token: usize,
}

impl Server {
    /// Opens the socket at `path` with the given permissions (`0o600`: its owner alone). A socket
    /// left behind by a process that is gone is replaced.
    pub fn open(path: &Path, mode: u32) -> Result<Self, SocketError> {
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
            std::fs::remove_file(path)
                .map_err(io("remove the socket of a process that is gone"))?;
        }
        // Bound under another name and renamed once its permissions are right, so that nobody can
        // connect in between.
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(format!(".{}", std::process::id()));
        let hidden = PathBuf::from(hidden);
        let _ = std::fs::remove_file(&hidden);
        let mut listener = UnixListener::bind(&hidden).map_err(io("bind"))?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))
            .map_err(io("set its permissions"))?;
        std::fs::rename(&hidden, path).map_err(io("put it in place"))?;
        let poll = Poll::new().map_err(io("create an event queue"))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(io("watch it"))?;
        info!(socket = %path.display(), "config socket open");
        Ok(Self {
            poll,
            events: Events::with_capacity(128),
            listener,
            path: path.to_owned(),
            clients: BTreeMap::new(),
            next_token: 0,
        })
    }

    /// Waits up to `timeout` for clients, and serves them.
    pub fn serve(&mut self, control: &mut Control, now: Timestamp, timeout: Duration) {
        // A dump under way or unread input needs no event to go on.
        let busy = self.clients.values().any(Client::has_work);
        let timeout = if busy {
            Duration::from_millis(1).min(timeout)
        } else {
            timeout
        };
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
            if error.kind() != ErrorKind::Interrupted {
                warn!(%error, "waiting for clients of the config socket failed");
                std::thread::sleep(timeout);
            }
            return;
        }
        let mut accept = false;
        for event in &self.events {
            if event.token() == LISTENER {
                accept = true;
            } else if let Some(client) = self.clients.get_mut(&event.token().0) {
                client.readable |=
                    event.is_readable() || event.is_read_closed() || event.is_error();
            }
        }
        if accept {
            self.accept(control);
        }
        let mut gone = Vec::new();
        for (token, client) in &mut self.clients {
            if client.advance(control, now).is_err() {
                gone.push(*token);
            } else {
                client.watch(&self.poll, *token);
            }
        }
        for token in gone {
            self.close(control, token);
        }
    }

    /// Hands lines to the clients whose sessions they are for.
    pub fn deliver(&mut self, lines: Vec<(u64, String)>) {
        for (session, line) in lines {
            if let Some(client) = self
                .clients
                .values_mut()
                .find(|c| c.session.id() == session)
            {
                client.output.extend(line.as_bytes());
            }
        }
        for (token, client) in &mut self.clients {
            // What cannot be written now waits for the next turn, which also closes on errors.
            let _ = client.write();
            client.watch(&self.poll, *token);
        }
    }

    fn accept(&mut self, control: &mut Control) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    warn!(%error, "cannot accept a client of the config socket");
                    return;
                }
            };
            if self.clients.len() >= MAX_CLIENTS {
                let refusal = refusal(format!("too many clients: {MAX_CLIENTS} at once"));
                let _ = stream.write(refusal.as_bytes());
                continue;
            }
            let token = self.next_token;
            self.next_token += 1;
            let interest = Interest::READABLE;
            if let Err(error) = self
                .poll
                .registry()
                .register(&mut stream, Token(token), interest)
            {
                warn!(%error, "cannot watch a client of the config socket");
                continue;
            }
            debug!(client = token, "client connected");
            let client = Client {
                stream,
                session: control.hub().open(),
                input: Vec::new(),
                taken: 0,
                output: VecDeque::new(),
                todo: VecDeque::new(),
                dump: None,
                half_closed: false,
                readable: true,
                interest,
            };
            self.clients.insert(token, client);
        }
    }

    fn close(&mut self, control: &mut Control, token: usize) {
        if let Some(mut client) = self.clients.remove(&token) {
            debug!(
                client = token,
                feeder = client.session.feeder(),
                "client gone"
            );
            let _ = self.poll.registry().deregister(&mut client.stream);
            control.hub().close(&client.session);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The client is to be forgotten.
struct Gone;

impl Client {
    /// Whether there is something to do without a further event: not while answers wait to be read,
    /// because the end of that is an event.
    fn has_work(&self) -> bool {
        let waits = self.dump.is_some() || !self.todo.is_empty() || self.taken < self.input.len();
        (waits || self.readable && !self.half_closed) && self.output.len() < READ_PAUSE
    }

    fn advance(&mut self, control: &mut Control, now: Timestamp) -> Result<(), Gone> {
        self.write()?;
        if self.readable && self.may_read() {
            self.read(control)?;
        }
        self.work(control, now);
        self.write()?;
        if self.output.len() > MAX_BACKLOG {
            warn!(
                feeder = self.session.feeder(),
                "client does not read its answers: cut off"
            );
            return Err(Gone);
        }
        let done = self.half_closed && self.output.is_empty() && !self.has_work();
        if done { Err(Gone) } else { Ok(()) }
    }

    fn may_read(&self) -> bool {
        !self.half_closed
            && self.output.len() < READ_PAUSE
            && self.taken == self.input.len()
            && self.todo.is_empty()
            && self.dump.is_none()
    }

    fn read(&mut self, control: &mut Control) -> Result<(), Gone> {
        self.input.resize(PIECE, 0);
        self.taken = 0;
        let read = self.stream.read(&mut self.input);
        self.input.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                self.half_closed = true;
                let mut wanted = Vec::new();
                self.session.finish(control.hub(), &mut wanted);
                self.todo.extend(wanted);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
        Ok(())
    }

    /// Does what was asked for, in order, until answers have to wait or nothing is left.
    fn work(&mut self, control: &mut Control, now: Timestamp) {
        while self.output.len() < READ_PAUSE {
            if let Some(dump) = &mut self.dump {
                if !dump.advance(control, &mut self.output) {
                    return;
                }
                self.dump = None;
            }
            match self.todo.pop_front() {
                Some(Output::Line(line)) => self.output.extend(line.as_bytes()),
                Some(Output::Show(show)) => self.show(control, &show, now),
                None if self.taken < self.input.len() => self.take(control),
                None => return,
            }
        }
    }

    /// Gives the session input up to where a request may end. A few octets can ask for megabytes,
    /// so the next request is not looked at before there is room for its answer.
    fn take(&mut self, control: &mut Control) {
        let rest = self.input.get(self.taken..).unwrap_or_default();
        let end = rest.iter().position(|&octet| octet == b'}');
        let (request, _) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        self.taken += request.len();
        let mut wanted = Vec::new();
        self.session.feed(control.hub(), request, &mut wanted);
        self.todo.extend(wanted);
    }

    fn show(&mut self, control: &Control, show: &Show, now: Timestamp) {
        match control.show(show, now) {
            Ok(Answered::Rows(rows)) => {
                let limit = show.limit.unwrap_or(usize::MAX);
                let count = rows.len().min(limit);
                let more = (rows.len() > limit).then(String::new);
                for row in rows.into_iter().take(limit) {
                    self.output.extend(row_line(&show.table, row).as_bytes());
                }
                self.output
                    .extend(Response::End { count, more }.to_line().as_bytes());
            }
            Ok(Answered::Connections(filter)) => {
                let limit = show.limit.unwrap_or(DEFAULT_ROWS);
                self.dump = Some(Dump::start(control, &filter, limit, now));
            }
            Err(errors) => {
                let answer = Answer {
                    event: Some("SHOW".to_owned()),
                    errors,
                    ..Answer::default()
                };
                self.output
                    .extend(Response::Answer(answer).to_line().as_bytes());
            }
        }
    }

    fn write(&mut self) -> Result<(), Gone> {
        while !self.output.is_empty() {
            let (front, _) = self.output.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(Gone),
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    fn watch(&mut self, poll: &Poll, token: usize) {
        let interest = if self.output.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        if interest != self.interest
            && poll
                .registry()
                .reregister(&mut self.stream, Token(token), interest)
                .is_ok()
        {
            self.interest = interest;
        }
    }
}

impl Dump {
    fn start(control: &Control, filter: &FlowFilter, limit: usize, now: Timestamp) -> Self {
        let (sender, rows) = bounded(DUMP_PIECES);
        for (number, worker) in control.workers().iter().enumerate() {
            let dump = FlowDump {
                worker: u16::try_from(number).unwrap_or(u16::MAX),
                filter: filter.clone(),
                now,
                rows: sender.clone(),
                cursor: Cursor::default(),
            };
            if worker.commands.push(Command::Dump(dump)).is_err() {
                warn!(
                    worker = number,
                    "too many commands under way: its connections are not shown"
                );
            }
        }
        Self {
            rows,
            left: limit,
            told: 0,
        }
    }

    /// Takes what the workers have told; true once that was all.
    fn advance(&mut self, control: &Control, output: &mut VecDeque<u8>) -> bool {
        while output.len() < READ_PAUSE {
            match self.rows.try_recv() {
                Ok(rows) => {
                    for row in rows {
                        if self.left == 0 {
                            let end = Response::End {
                                count: self.told,
                                more: Some(String::new()),
                            };
                            output.extend(end.to_line().as_bytes());
                            return true;
                        }
                        self.left -= 1;
                        self.told += 1;
                        output.extend(row_line("connections", control.flow_row(&row)).as_bytes());
                    }
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    let end = Response::End {
                        count: self.told,
                        more: None,
                    };
                    output.extend(end.to_line().as_bytes());
                    return true;
                }
            }
        }
        false
    }
}

fn row_line(table: &str, row: Row) -> String {
    Response::Row {
        table: table.to_owned(),
        row,
    }
    .to_line()
}

fn refusal(message: String) -> String {
    Response::Answer(Answer {
        errors: vec![FieldError::whole(message)],
        ..Answer::default()
    })
    .to_line()
}
