//! The config socket: a Unix stream socket, any number of feeders and operators' tools up to a
//! bound, served by the control thread itself.
//!
//! Nothing a client does can hold up another or grow memory without bound: input is taken in
//! pieces, and of a piece one request at a time, none while earlier answers wait to be read; a
//! client that lets too much wait all the same is cut off. Requests that cost few octets can cost
//! much time: each turn has so much of it, each client a share, and the next turn goes on with the
//! client that was not served any more.

mod client;
mod dump;
mod socket;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use config::FieldError;
use config::client::{Answer, Response};
use mio::net::UnixListener;
use mio::{Events, Interest, Poll, Token};
use net::Timestamp;
use tracing::{debug, info, warn};

use super::Control;
use client::Client;
use socket::Place;
pub use socket::SocketError;

/// Clients at once.
const MAX_CLIENTS: usize = 64;

/// Time given to the clients before the control thread looks after the rest of its work. One
/// request may overrun it.
const TURN: Duration = Duration::from_millis(5);

const LISTENER: Token = Token(usize::MAX);
/// Of what [`Server::watch`] is told.
const ALARM: Token = Token(usize::MAX - 1);

/// The socket and its clients.
pub struct Server {
    poll: Poll,
    events: Events,
    listener: UnixListener,
    place: Place,
    clients: BTreeMap<usize, Client>,
    next_token: usize,
    /// Somebody may wait to be accepted: the event is told once.
    accept: bool,
    /// The last attempt to accept failed, and that was logged.
    accept_failed: bool,
    /// The client the next turn begins with, if the last one had no time left for it.
    unserved: Option<usize>,
}

impl Server {
    /// Opens the socket at `path` with the given permissions (`0o600`: its owner alone). A socket
    /// left behind by a process that is gone is replaced.
    pub fn open(path: &Path, mode: u32) -> Result<Self, SocketError> {
        let (mut listener, place) = socket::listen(path, mode)?;
        let io = |what| {
            move |error| SocketError::Io {
                path: path.to_owned(),
                what,
                error,
            }
        };
        let poll = Poll::new().map_err(io("create an event queue"))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(io("watch it"))?;
        info!(socket = %path.display(), "config socket open");
        Ok(Self {
            poll,
            events: Events::with_capacity(128),
            listener,
            place,
            clients: BTreeMap::new(),
            next_token: 0,
            accept: false,
            accept_failed: false,
            unserved: None,
        })
    }

    /// Ends [waits](Self::serve) when `fd` has something to read from now on. It must outlive them.
    ///
    /// # Errors
    /// The system's, when it cannot be watched.
    pub fn watch(&self, fd: std::os::fd::RawFd) -> std::io::Result<()> {
        let mut source = mio::unix::SourceFd(&fd);
        let registry = self.poll.registry();
        registry.register(&mut source, ALARM, Interest::READABLE)
    }

    /// Waits up to `timeout` for clients, and serves them.
    pub fn serve(&mut self, control: &mut Control, now: Timestamp, timeout: Duration) {
        let timeout = if self.unserved.is_some() {
            Duration::ZERO
        } else {
            let waits = self.clients.values().map(Client::waits_at_most);
            waits.fold(timeout, Duration::min)
        };
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
            if error.kind() != ErrorKind::Interrupted {
                warn!(%error, "waiting for clients of the config socket failed");
                std::thread::sleep(timeout);
            }
            return;
        }
        for event in &self.events {
            if event.token() == LISTENER {
                self.accept = true;
            } else if let Some(client) = self.clients.get_mut(&event.token().0) {
                client.note(event);
            }
        }
        if self.accept {
            self.accept(control);
        }
        self.advance(control, now);
    }

    /// Serves the clients in turn, until the time is up.
    fn advance(&mut self, control: &mut Control, now: Timestamp) {
        let begun = Instant::now();
        let from = self.unserved.take().unwrap_or(0);
        let tokens: Vec<usize> = self
            .clients
            .range(from..)
            .map(|(token, _)| *token)
            .collect();
        let before = self.clients.range(..from).map(|(token, _)| *token);
        for token in tokens.into_iter().chain(before.collect::<Vec<_>>()) {
            if begun.elapsed() > TURN {
                self.unserved = Some(token);
                return;
            }
            let Some(client) = self.clients.get_mut(&token) else {
                continue;
            };
            if client.advance(control, now).is_err() {
                self.close(control, token);
            } else {
                client.watch(&self.poll, token);
            }
        }
    }

    /// Hands lines to the clients whose sessions they are for.
    pub fn deliver(&mut self, lines: Vec<(u64, String)>) {
        for (session, line) in lines {
            if let Some(client) = self
                .clients
                .values_mut()
                .find(|c| c.session().id() == session)
            {
                client.tell(line);
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
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => self.accept = false,
                        // Of one client; there may be others behind it.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => continue,
                        // Not enough of something, such as file descriptors: the next turn may
                        // find it.
                        _ if self.accept_failed => {}
                        _ => {
                            self.accept_failed = true;
                            warn!(%error, "cannot accept a client of the config socket yet");
                        }
                    }
                    return;
                }
            };
            self.accept_failed = false;
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
            let client = Client::new(stream, control.hub().open(), interest);
            self.clients.insert(token, client);
        }
    }

    fn close(&mut self, control: &mut Control, token: usize) {
        if let Some(mut client) = self.clients.remove(&token) {
            debug!(
                client = token,
                feeder = client.session().feeder(),
                "client gone"
            );
            client.unwatch(&self.poll);
            control.hub().close(client.session());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.place.remove();
    }
}

fn refusal(message: String) -> String {
    Response::Answer(Answer {
        errors: vec![FieldError::whole(message)],
        ..Answer::default()
    })
    .to_line()
}
