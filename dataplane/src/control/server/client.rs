//! One client: its input, what it asked for, and its answers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use config::FieldError;
use config::client::{Response, Show};
use config::watch::{Output, Session};
use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Poll, Token};
use net::Timestamp;
use tracing::warn;

use super::dump::{Dump, Flushing};
use crate::control::Control;
use crate::control::show::{Answered, Row};

/// Octets taken from a client at a time.
const PIECE: usize = 64 * 1024;
/// While this much waits to be written to a client, none of its requests is looked at.
pub(super) const READ_PAUSE: usize = 256 * 1024;
/// A client that lets this much wait is cut off.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;
/// A client's share of a turn: when it is over, its next request waits for the next turn.
const SHARE: Duration = Duration::from_millis(1);
/// How often workers are asked how far their dumps are.
const DUMP_LOOK: Duration = Duration::from_millis(1);
/// Rows of connections told when no limit is asked for.
const DEFAULT_ROWS: usize = 10_000;

/// A client of the config socket.
pub(super) struct Client {
    stream: UnixStream,
    session: Session,
    /// What was read and is not looked at yet.
    input: Vec<u8>,
    /// How much of it is done with.
    taken: usize,
    output: VecDeque<u8>,
    /// What the session wants done, in order; it waits while a dump is under way.
    todo: VecDeque<Output>,
    /// Octets of lines in it that are no answers.
    told_later: usize,
    dump: Option<Dump>,
    flush: Option<Flushing>,
    /// The client will send no more.
    half_closed: bool,
    /// All requests are answered, and what they fed is told after so many takings-up of changes.
    told_after: Option<u64>,
    readable: bool,
    interest: Interest,
}

/// The client is to be forgotten.
pub(super) struct Gone;

impl Client {
    /// A client that has just connected and is watched with `interest`.
    pub(super) fn new(stream: UnixStream, session: Session, interest: Interest) -> Self {
        Self {
            stream,
            session,
            input: Vec::new(),
            taken: 0,
            output: VecDeque::new(),
            todo: VecDeque::new(),
            told_later: 0,
            dump: None,
            flush: None,
            half_closed: false,
            told_after: None,
            readable: true,
            interest,
        }
    }

    /// Its session with the hub.
    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    /// Takes note of an event of its socket.
    pub(super) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
    }

    /// A line for it, behind the answers to what it has sent already: a state that came before the
    /// answer would be taken for one of an earlier version.
    pub(super) fn tell(&mut self, line: String) {
        if self.todo.is_empty() {
            self.output.extend(line.as_bytes());
        } else {
            self.told_later += line.len();
            self.todo.push_back(Output::Line(line));
        }
    }

    /// Whether there is something to do without a further event: not while answers wait to be read,
    /// because the end of that is an event.
    fn has_work(&self) -> bool {
        let waits = self.dump.is_some()
            || self.flush.is_some()
            || !self.todo.is_empty()
            || self.taken < self.input.len();
        (waits || self.readable && !self.half_closed) && self.output.len() < READ_PAUSE
    }

    /// How long it can wait for its next turn if no event comes before.
    pub(super) fn waits_at_most(&self) -> Duration {
        match (self.has_work(), self.dump.is_some() || self.flush.is_some()) {
            (true, true) => DUMP_LOOK,
            (true, false) => Duration::ZERO,
            (false, _) => Duration::MAX,
        }
    }

    /// Its share of a turn: reads, does what was asked for, writes.
    pub(super) fn advance(&mut self, control: &mut Control, now: Timestamp) -> Result<(), Gone> {
        self.write()?;
        if self.readable && self.may_read() {
            self.read(control)?;
        }
        self.work(control, now);
        self.write()?;
        if self.output.len() + self.told_later > MAX_BACKLOG {
            warn!(
                feeder = self.session.feeder(),
                "client does not read its answers: cut off"
            );
            return Err(Gone);
        }
        if self.is_done(control) {
            Err(Gone)
        } else {
            Ok(())
        }
    }

    /// Whether there is nothing left to say to a client that says nothing more itself: the states
    /// of what it fed come after the answers.
    fn is_done(&mut self, control: &Control) -> bool {
        if !self.half_closed || !self.output.is_empty() || self.has_work() {
            return false;
        }
        let after = *self.told_after.get_or_insert_with(|| control.told_after());
        control.taken_up >= after
    }

    fn may_read(&self) -> bool {
        !self.half_closed
            && self.output.len() < READ_PAUSE
            && self.taken == self.input.len()
            && self.todo.is_empty()
            && self.dump.is_none()
            && self.flush.is_none()
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

    /// Does what was asked for, in order, until answers have to wait, the time is up or nothing is
    /// left.
    fn work(&mut self, control: &mut Control, now: Timestamp) {
        let begun = Instant::now();
        while self.output.len() < READ_PAUSE && begun.elapsed() < SHARE {
            if let Some(dump) = &mut self.dump {
                if !dump.advance(control, &mut self.output) {
                    return;
                }
                self.dump = None;
            }
            if let Some(flush) = &mut self.flush {
                let Some(answer) = flush.advance() else {
                    return;
                };
                self.output.extend(answer.to_line().as_bytes());
                self.flush = None;
            }
            match self.todo.pop_front() {
                Some(Output::Line(line)) => self.output.extend(line.as_bytes()),
                Some(Output::Show(show)) => self.show(control, &show, now),
                Some(Output::Flush(flush)) => match control.flush(&flush.filter) {
                    Ok(answers) => {
                        self.flush = Some(Flushing::new(answers, control.workers().len()));
                    }
                    Err(errors) => self.refuse("FLUSH", errors),
                },
                None => {
                    self.told_later = 0;
                    if self.taken == self.input.len() {
                        return;
                    }
                    self.take(control);
                }
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
            Err(errors) => self.refuse("SHOW", errors),
        }
    }

    fn refuse(&mut self, event: &str, errors: Vec<FieldError>) {
        let refusal = Response::refused(event, errors);
        self.output.extend(refusal.to_line().as_bytes());
    }

    pub(super) fn write(&mut self) -> Result<(), Gone> {
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

    /// Ends [`watch`](Self::watch).
    pub(super) fn unwatch(&mut self, poll: &Poll) {
        let _ = poll.registry().deregister(&mut self.stream);
    }

    /// Asks to be woken by what matters: room for answers only while some wait.
    pub(super) fn watch(&mut self, poll: &Poll, token: usize) {
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

pub(super) fn row_line(table: &str, row: Row) -> String {
    Response::Row {
        table: table.to_owned(),
        row,
    }
    .to_line()
}
