//! One kind of one namespace (or of all): rounds of list and watch.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use config::client::{Answer, INITIAL_EVENTS_END, Request, Response};
use config::resource::{self, Identity};
use config::{Kind, ObjectKey};
use serde_json::{Value, json};

use super::kubectl::{Kubectl, Running};
use super::status::{Board, Verdict};
use super::{News, Stop, path};
use crate::apply::describe;
use crate::args::{ColorChoice, Global};
use crate::link::{Link, request_line};
use crate::ui::Tone;
use crate::{batch, manifests};

/// How long a list may take.
const LIST: Duration = Duration::from_mins(1);
/// So much longer than the server is asked to keep a watch, kubectl waits for its end.
const GRACE: Duration = Duration::from_secs(20);
/// Between rounds: always, and at most after failures.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Longest event of a watch that is taken, in octets: far beyond what an API server stores.
const MAX_EVENT: u64 = 16 * 1024 * 1024;

/// What was printed of each object last.
type Said = HashMap<String, String>;

pub struct Source {
    pub kind: Kind,
    pub namespace: Option<String>,
    /// How long a watch lasts.
    pub round: Duration,
    pub socket: PathBuf,
    pub timeout: Option<Duration>,
    pub color: ColorChoice,
    pub quiet: bool,
    pub kubectl: Arc<Kubectl>,
    /// Where states go, if they are written.
    pub board: Option<Arc<Board>>,
    pub stop: Arc<Stop>,
    pub tell: Sender<News>,
}

impl Source {
    /// Rounds until it is over.
    pub fn run(self) {
        let mut pause = PAUSE.0;
        let mut complained = String::new();
        let mut said = Said::new();
        while !self.stop.is_set() {
            let begin = Instant::now();
            match self.round(&mut said) {
                Ok(()) => {
                    pause = PAUSE.0;
                    complained.clear();
                }
                Err(_) if self.stop.is_set() => return,
                Err(why) => {
                    // One that held for a while is no failure in a row.
                    if begin.elapsed() > PAUSE.1 {
                        pause = PAUSE.0;
                    }
                    if complained != why {
                        self.line(Tone::Warn, format!("{}: {why}; trying again", self.name()));
                        complained = why;
                    }
                    self.stop.wait(pause);
                    pause = (pause * 2).min(PAUSE.1);
                    continue;
                }
            }
            self.stop.wait(pause);
        }
    }

    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} of {namespace}", self.kind.plural()),
            None => self.kind.plural().to_owned(),
        }
    }

    fn line(&self, tone: Tone, text: String) {
        let _ = self.tell.send(News::Line(tone, text));
    }

    /// List and watch, until the watch ends; a sentence if it went wrong.
    fn round(&self, said: &mut Said) -> Result<(), String> {
        let global = Global {
            socket: self.socket.clone(),
            timeout: self.timeout,
            color: self.color,
        };
        let mut link = Link::open(&global).map_err(|error| error.to_string())?;
        let feeder = match &self.namespace {
            Some(namespace) => format!("{}.{namespace}", self.kind.plural()),
            None => self.kind.plural().to_owned(),
        };
        batch::hello(&mut link, &feeder).map_err(|error| error.to_string())?;

        let path = path(self.kind, self.namespace.as_deref());
        let list = self.kubectl.ask(&["get", "--raw", &path], LIST, None);
        let list = list.map_err(|why| self.explain(&why))?;
        let list: Value = serde_json::from_slice(&list)
            .map_err(|error| format!("the list is no JSON: {error}"))?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let watch = format!(
            "{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}",
            self.round.as_secs()
        );
        let objects = resource::expand(list).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("the list: {}", errors.join("; "))
        })?;
        let kubectl = self
            .kubectl
            .start(&["get", "--raw", &watch], self.round + GRACE)?;
        let end_watch = kubectl.handle();

        let sender = link.sender().map_err(|error| error.to_string())?;
        let over = Arc::new(AtomicBool::new(false));
        let pump = Pump {
            kind: self.kind,
            stream: sender,
            board: self.board.clone().filter(|_| self.kind.is_custom()),
            namespace: self.namespace.clone(),
            over: Arc::clone(&over),
        };
        let pump = thread::spawn(move || pump.run(objects, kubectl));
        let lost = self.answers(&mut link, said);
        // Either the watch has ended and tmm has answered all of it, or tmm has gone.
        let tmm_first = !over.load(Ordering::Acquire);
        end_watch.kill();
        let pumped = pump.join().unwrap_or_else(|_| Err("it failed".to_owned()));
        match (tmm_first, lost) {
            (true, why) => Err(why),
            (false, _) => pumped.map_err(|why| self.explain(&why)),
        }
    }

    /// What kubectl says, and what to do about it.
    fn explain(&self, why: &str) -> String {
        let kind = self.kind;
        let unknown = why.contains("(NotFound)") || why.contains("could not find the requested");
        let advice = if unknown && kind.is_custom() {
            format!(" (the cluster does not know {kind}: tmmctl crds | kubectl apply -f -)")
        } else if why.contains("(Forbidden)") {
            format!(" (the role needs list and watch of {})", kind.plural())
        } else {
            String::new()
        };
        format!("{why}{advice}")
    }

    /// Takes what tmm says until it says no more; why it does not.
    fn answers(&self, link: &mut Link, said: &mut Said) -> String {
        loop {
            match link.receive_at_leisure() {
                Ok(Response::Answer(answer)) => self.answer(&answer, said),
                Ok(Response::State(line)) => {
                    if !self.quiet && self.kind.is_custom() {
                        let (tone, text) = describe(&line);
                        let label = manifests::name(&line.kind, &line.namespace, &line.name);
                        let text = format!("{label}: {text}");
                        // What is written to the cluster comes back and is said again.
                        if said.get(&label) != Some(&text) {
                            self.line(tone, text.clone());
                            said.insert(label, text);
                        }
                    }
                    if let (Some(board), Some(kind)) = (&self.board, Kind::from_name(&line.kind))
                        && kind.is_custom()
                    {
                        let key = ObjectKey {
                            kind,
                            namespace: line.namespace.clone(),
                            name: line.name.clone(),
                        };
                        board.say(key, Verdict::of_state(&line));
                    }
                }
                Ok(other) => return link.unexpected(other).to_string(),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn answer(&self, answer: &Answer, said: &mut Said) {
        let identity = Identity {
            kind: answer.kind.clone(),
            namespace: answer.namespace.clone(),
            name: answer.name.clone(),
            generation: answer.generation,
        };
        if !answer.accepted {
            let errors: Vec<String> = answer.errors.iter().map(ToString::to_string).collect();
            let label = manifests::label(&identity);
            let text = format!("{label} refused: {}", errors.join("; "));
            if said.get(&label) != Some(&text) {
                self.line(Tone::Bad, text.clone());
                said.insert(label, text);
            }
            if let (Some(board), Some(key)) = (&self.board, identity.key())
                && key.kind.is_custom()
            {
                let generation = answer.generation.unwrap_or(0);
                board.say(key, Verdict::of_refusal(generation, &answer.errors));
            }
            return;
        }
        if answer.event.as_deref() == Some("DELETED") {
            let label = manifests::label(&identity);
            if said.remove(&label).is_some() && !self.quiet {
                self.line(Tone::Plain, format!("{label} deleted"));
            }
        }
        let end_of_list = answer.event.as_deref() == Some("BOOKMARK") && answer.note.is_some();
        if let (true, false, Some(note)) = (end_of_list, self.quiet, &answer.note) {
            self.line(Tone::Plain, format!("{}: {note}", self.name()));
        }
    }
}

/// The sending side of a round.
struct Pump {
    kind: Kind,
    stream: UnixStream,
    board: Option<Arc<Board>>,
    namespace: Option<String>,
    /// Set when the watch has ended, before tmm is told.
    over: Arc<AtomicBool>,
}

impl Pump {
    fn run(mut self, objects: Vec<Value>, mut kubectl: Running) -> Result<(), String> {
        let sent = self.list(objects).and_then(|()| self.follow(&mut kubectl));
        self.over.store(true, Ordering::Release);
        // tmm answers what it has, and closes.
        let _ = self.stream.shutdown(Shutdown::Write);
        match sent {
            Ok(Followed::Ended) => kubectl.end(),
            // The next round lists anew.
            Ok(Followed::Expired) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), String> {
        let line = request_line(request);
        let sent = self.stream.write_all(line.as_bytes());
        sent.map_err(|error| format!("tmm is gone: {error}"))
    }

    fn list(&mut self, objects: Vec<Value>) -> Result<(), String> {
        let mut listed = Vec::new();
        for object in objects {
            if let Some(key) = self.keep(&object) {
                listed.push(key);
            }
            self.send(&Request::Added { object })?;
        }
        if let Some(board) = &self.board {
            board.retain(self.kind, self.namespace.as_deref(), &listed);
        }
        let object = json!({"metadata": {"annotations": {INITIAL_EVENTS_END: "true"}}});
        self.send(&Request::Bookmark { object })
    }

    /// Remembers an object whose status may have to be written.
    fn keep(&self, object: &Value) -> Option<ObjectKey> {
        let board = self.board.as_ref()?;
        let key = Identity::of(object).key()?;
        board.keep(key.clone(), object.clone());
        Some(key)
    }

    fn follow(&mut self, kubectl: &mut Running) -> Result<Followed, String> {
        let mut lines = BufReader::new(&mut kubectl.stdout);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut lines).take(MAX_EVENT);
            let read = limited.read_until(b'\n', &mut line);
            let long = limited.limit() == 0;
            read.map_err(|error| format!("cannot read from kubectl: {error}"))?;
            if !line.ends_with(b"\n") {
                if long {
                    return Err(format!(
                        "an event of the watch is longer than {MAX_EVENT} octets"
                    ));
                }
                // Of what is cut off, the next list has the whole.
                return Ok(Followed::Ended);
            }
            let value: Value = serde_json::from_slice(&line)
                .map_err(|error| format!("the watch is no JSON: {error}"))?;
            let request =
                Request::from_value(value).map_err(|_| "the watch has no events".to_owned())?;
            match &request {
                Request::Added { object } | Request::Modified { object } => {
                    let _ = self.keep(object);
                }
                Request::Deleted { object } => {
                    if let (Some(board), Some(key)) = (&self.board, Identity::of(object).key()) {
                        board.forget(&key);
                    }
                }
                Request::Error { object } if object["code"] == 410 => return Ok(Followed::Expired),
                Request::Error { object } => {
                    let why = object["message"].as_str().unwrap_or("it does not say why");
                    return Err(format!("the watch failed: {why}"));
                }
                // Of use to whoever goes on from there; the next round begins with a list.
                _ => continue,
            }
            self.send(&request)?;
        }
    }
}

/// How a watch ended.
enum Followed {
    Ended,
    Expired,
}
