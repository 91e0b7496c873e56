//! `tmmctl feed`: a stream of watch events, followed to its end.
//!
//! One thread reads the input and sends; the other reads answers and prints. Back-pressure is the
//! sockets' own: whoever does not read the output stops tmm's answers, and thereby the input.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use config::FieldError;
use config::client::{Answer, INITIAL_EVENTS_END, Request, Response, StateLine};
use config::resource::{self, Identity};
use config::watch::{Item as Piece, Splitter};
use serde_json::{Value, json};

use crate::apply::{States, describe};
use crate::args::{FeedArgs, Global};
use crate::batch::{self, Item};
use crate::error::Error;
use crate::link::{Link, request_line};
use crate::ui::{Tone, Ui};
use crate::{FAILED, OK, manifests};

/// Longest value of the input, in octets: a list of a large cluster. What tmm takes of one object
/// is less, and for tmm to judge.
const MAX_INPUT: usize = 64 * 1024 * 1024;
/// Events that may be under way without an answer.
const UNDER_WAY: usize = 1024;

/// What the sending thread tells, in the order of what it has sent.
enum Sent {
    /// An event that begins in this line.
    Event { line: u64 },
    /// What begins in this line was no event, and has not been sent.
    Bad { line: u64, why: String },
    /// The complete list has been sent; its end is asked for.
    Listed,
    /// The input has ended; a last request asks for its one answer.
    End { read: Result<(), Error> },
}

pub fn run(
    global: &Global,
    args: &FeedArgs,
    stdin: Box<dyn Read + Send>,
    ui: &mut Ui<'_>,
) -> Result<u8, Error> {
    let mut name = args.file.display().to_string();
    let input: Box<dyn Read + Send> = if name == "-" {
        manifests::STDIN.clone_into(&mut name);
        stdin
    } else {
        let file = File::open(&args.file).map_err(|source| Error::Input {
            name: name.clone(),
            source,
        })?;
        Box::new(file)
    };
    let mut link = Link::open(global)?;
    batch::hello(&mut link, &args.feeder)?;
    let (sent, receiver) = sync_channel(UNDER_WAY);
    let pump = Pump {
        name: name.clone(),
        input,
        stream: link.sender()?,
        sent,
        complete: args.complete,
        list_first: args.list_first,
    };
    // It ends with its input, or with the process: nothing can end a read of a terminal or a pipe.
    std::thread::spawn(move || pump.run());
    let mut printer = Printer {
        ui,
        name,
        quiet: args.quiet,
        states: States::default(),
        accepted: BTreeSet::new(),
        refused: 0,
        failed: false,
    };
    printer.follow(&mut link, &receiver)?;
    printer.rest(&mut link, Instant::now() + args.wait)?;
    if printer.refused == 0 {
        return Ok(if printer.failed { FAILED } else { OK });
    }
    let refused = crate::units::plural(printer.refused, "event");
    printer
        .ui
        .complain(Tone::Bad, format!("{refused} refused"))?;
    Ok(FAILED)
}

/// The sending thread.
struct Pump {
    name: String,
    input: Box<dyn Read + Send>,
    stream: UnixStream,
    sent: SyncSender<Sent>,
    complete: bool,
    list_first: bool,
}

/// The other end is gone, or nobody is left to tell.
struct Stop;

impl Pump {
    fn run(mut self) {
        let read = self.pump();
        let Ok(end) = read else { return };
        // A list that broke off, or never came, is not a complete one.
        let whole = end.read.is_ok() && end.values > 0 && end.bad == 0 && !end.failed;
        let object = if self.complete && whole {
            end_of_list()
        } else {
            json!({})
        };
        let lacking = self.complete && !whole || end.list_due;
        let read = match (end.read, lacking) {
            (Ok(()), true) => Err(Error::Usage(format!(
                "{}: nothing removed: the list is not complete",
                self.name
            ))),
            (read, _) => read,
        };
        let _ = tell(&mut self.stream, &self.sent, Sent::End { read }, object);
    }

    fn pump(&mut self) -> Result<Ended, Stop> {
        let mut splitter = Splitter::new(MAX_INPUT);
        let mut piece = vec![0; 64 * 1024];
        let mut ended = Ended {
            read: Ok(()),
            values: 0,
            bad: 0,
            failed: false,
            list_due: self.list_first,
        };
        let mut stopped = false;
        loop {
            let len = match self.input.read(&mut piece) {
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    ended.read = Err(Error::Input {
                        name: self.name.clone(),
                        source,
                    });
                    0
                }
            };
            let (stream, sent) = (&mut self.stream, &self.sent);
            let mut take = |found: Piece<'_>| {
                stopped = stopped || forward(found, stream, sent, &mut ended).is_err();
                !stopped
            };
            if len == 0 {
                splitter.finish(&mut take);
            } else {
                splitter.push(piece.get(..len).unwrap_or_default(), &mut take);
            }
            if stopped {
                return Err(Stop);
            }
            if len == 0 {
                return Ok(ended);
            }
        }
    }
}

/// Tells the printing side something that is no event. A bookmark goes with it, whose answer makes
/// the printing side look; without the annotation it does nothing else.
fn tell(
    stream: &mut UnixStream,
    sent: &SyncSender<Sent>,
    what: Sent,
    object: Value,
) -> Result<(), Stop> {
    // In this order: whoever reads the answer must find out what it is about.
    sent.send(what).map_err(|_| Stop)?;
    let line = request_line(&Request::Bookmark { object });
    stream.write_all(line.as_bytes()).map_err(|_| Stop)
}

/// How the input ended.
struct Ended {
    read: Result<(), Error>,
    values: usize,
    bad: usize,
    /// The source says that its own watch has failed.
    failed: bool,
    /// The list that the input should begin with has not come.
    list_due: bool,
}

/// The bookmark that ends a list of any kinds.
fn end_of_list() -> Value {
    json!({"metadata": {"annotations": {INITIAL_EVENTS_END: "true"}}})
}

/// Sends what was found, a list as its objects: a list may be far larger than what tmm takes at
/// once.
fn forward(
    found: Piece<'_>,
    stream: &mut UnixStream,
    sent: &SyncSender<Sent>,
    ended: &mut Ended,
) -> Result<(), Stop> {
    let (line, events) = match found {
        Piece::Garbage { line, why } => (line, Err(why.to_string())),
        Piece::Value { bytes, line } => (line, events(bytes)),
    };
    let (events, is_list) = match events {
        Ok(events) => events,
        Err(why) => {
            ended.bad += 1;
            return tell(stream, sent, Sent::Bad { line, why }, json!({}));
        }
    };
    ended.values += 1;
    for event in events {
        ended.failed |= matches!(event, Request::Error { .. });
        sent.send(Sent::Event { line }).map_err(|_| Stop)?;
        let line = request_line(&event);
        stream.write_all(line.as_bytes()).map_err(|_| Stop)?;
    }
    if ended.list_due && is_list && ended.values == 1 && ended.bad == 0 {
        ended.list_due = false;
        return tell(stream, sent, Sent::Listed, end_of_list());
    }
    Ok(())
}

/// The events of a value, each with one answer to come, and whether they were a list.
///
/// Errors: a sentence on why there are none.
fn events(bytes: &[u8]) -> Result<(Vec<Request>, bool), String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let sentence = |errors: Vec<FieldError>| {
        let all: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        all.join("; ")
    };
    let request = Request::from_value(value).map_err(sentence)?;
    let again: fn(Value) -> Request = match &request {
        Request::Added { .. } => |object| Request::Added { object },
        Request::Modified { .. } => |object| Request::Modified { object },
        Request::Deleted { .. } => |object| Request::Deleted { object },
        Request::Bookmark { .. } | Request::Error { .. } => return Ok((vec![request], false)),
        Request::Hello { .. }
        | Request::Validate { .. }
        | Request::Get(_)
        | Request::Show(_)
        | Request::Flush(_) => {
            return Err(format!("{} is not a watch event", request.name()));
        }
    };
    let (Request::Added { object } | Request::Modified { object } | Request::Deleted { object }) =
        request
    else {
        return Ok((Vec::new(), false));
    };
    let is_list = is_list(&object);
    let objects = resource::expand(object).map_err(sentence)?;
    if is_list && objects.iter().any(self::is_list) {
        return Err("a list inside a list".to_owned());
    }
    Ok((objects.into_iter().map(again).collect(), is_list))
}

fn is_list(value: &Value) -> bool {
    let kind = value.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
}

/// The printing side.
struct Printer<'ui, 'io> {
    ui: &'ui mut Ui<'io>,
    name: String,
    quiet: bool,
    states: States,
    /// Names of accepted objects that are still there.
    accepted: BTreeSet<String>,
    refused: usize,
    /// The source has lost its own watch.
    failed: bool,
}

impl Printer<'_, '_> {
    /// Prints until the input has ended and all of it is answered.
    fn follow(&mut self, link: &mut Link, sent: &Receiver<Sent>) -> Result<(), Error> {
        loop {
            let answer = match link.receive_at_leisure()? {
                Response::State(line) => {
                    self.state(&line)?;
                    self.states.take(line);
                    continue;
                }
                Response::Answer(answer) => answer,
                other => return Err(link.unexpected(other)),
            };
            // It was told before it was sent, so it is there.
            let line = match sent.recv() {
                Ok(Sent::Event { line }) => line,
                Ok(Sent::Bad { line, why }) => {
                    self.refused += 1;
                    let place = format!("{}:{line}", self.name);
                    self.ui.complain(Tone::Bad, format!("{place}: {why}"))?;
                    continue;
                }
                Ok(Sent::Listed) => {
                    self.note(&answer)?;
                    continue;
                }
                Ok(Sent::End { read }) => {
                    self.note(&answer)?;
                    return read;
                }
                Err(_) => return Err(link.unexpected(Response::Answer(answer))),
            };
            self.answer(line, &answer)?;
        }
    }

    /// What tmm says of the end of a list.
    fn note(&mut self, answer: &Answer) -> Result<(), Error> {
        match &answer.note {
            Some(note) if !self.quiet => {
                self.ui.line(Tone::Plain, note)?;
                self.ui.flush()
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, line: u64, answer: &Answer) -> Result<(), Error> {
        let identity = Identity {
            kind: answer.kind.clone(),
            namespace: answer.namespace.clone(),
            name: answer.name.clone(),
            generation: answer.generation,
        };
        let label = match (&identity.name, answer.event.as_deref()) {
            (None, Some(event)) => event.to_lowercase(),
            _ => manifests::label(&identity),
        };
        if !answer.accepted {
            self.refused += 1;
            let place = format!("{}:{line}", self.name);
            return batch::refused(self.ui, &Item { label, place }, &answer.errors);
        }
        let note = answer.note.as_deref();
        let what = match answer.event.as_deref() {
            Some("DELETED") => {
                self.accepted.remove(&label);
                self.states.forget(&label);
                note.unwrap_or("deleted").to_owned()
            }
            Some("ADDED" | "MODIFIED") if identity.name.is_some() => {
                // What was told before the answer is about the version before.
                self.states.forget(&label);
                self.accepted.insert(label.clone());
                "accepted".to_owned()
            }
            // A source that has lost its watch must not go unnoticed.
            Some("ERROR") => {
                self.failed = true;
                let note = note.unwrap_or("the source has failed");
                return self
                    .ui
                    .complain(Tone::Warn, format!("{}:{line}: {note}", self.name));
            }
            _ => note.unwrap_or("accepted").to_owned(),
        };
        if self.quiet {
            return Ok(());
        }
        self.ui.line(Tone::Plain, format!("{label} {what}"))?;
        self.ui.flush()
    }

    fn state(&mut self, line: &StateLine) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        let (tone, text) = describe(line);
        let label = manifests::name(&line.kind, &line.namespace, &line.name);
        self.ui.line(tone, format!("{label}: {text}"))?;
        self.ui.flush()
    }

    /// Prints the states that are still to come.
    fn rest(&mut self, link: &mut Link, deadline: Instant) -> Result<(), Error> {
        let accepted = std::mem::take(&mut self.accepted);
        let labels: Vec<&str> = accepted.iter().map(String::as_str).collect();
        let mut states = std::mem::take(&mut self.states);
        states.wait(link, &labels, deadline, |line| self.state(line))
    }
}
