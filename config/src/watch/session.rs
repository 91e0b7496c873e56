//! One connection of a feeder or an operator's tool.

use std::sync::Arc;

use serde_json::Value;

use super::MAX_VALUE;
use super::hub::Hub;
use super::splitter::{Item, Splitter};
use crate::client::{Answer, Flush, INITIAL_EVENTS_END, NO_SUCH_OBJECT, Request, Response, Show};
use crate::error::FieldError;
use crate::kind::{self, Kind};
use crate::resource::{self, Identity};
use crate::store::Owner;

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write this line; it ends with a newline.
    Line(String),
    /// Answer this from the dataplane's tables with [`Response::Row`]s and a [`Response::End`].
    Show(Show),
    /// End these connections, and answer with a [`Response::End`].
    Flush(Flush),
}

/// One connection: bytes in, [`Output`]s out.
#[derive(Debug)]
pub struct Session {
    splitter: Splitter,
    conversation: Conversation,
}

/// All of a session but its framing.
#[derive(Debug)]
struct Conversation {
    owner: Owner,
    /// Something was said already, so it is too late for a `HELLO`.
    begun: bool,
}

impl Session {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            splitter: Splitter::new(MAX_VALUE),
            conversation: Conversation {
                owner,
                begun: false,
            },
        }
    }

    /// The session's number, as in [`Hub::publish`].
    pub fn id(&self) -> u64 {
        self.conversation.owner.session
    }

    /// Name of the feeder.
    pub fn feeder(&self) -> &str {
        &self.conversation.owner.feeder
    }

    /// Takes bytes as they come, in pieces of any size; what is to be done is added to `out`.
    ///
    /// One piece can ask for many answers. A caller keeps its memory bounded by reading pieces
    /// of limited size (64 KiB is plenty) and none while earlier output is still unwritten.
    pub fn feed(&mut self, hub: &mut Hub, bytes: &[u8], out: &mut Vec<Output>) {
        let conversation = &mut self.conversation;
        self.splitter
            .push(bytes, |item| conversation.take(hub, item, out));
    }

    /// The stream has ended: what is incomplete is answered as such.
    pub fn finish(&mut self, hub: &mut Hub, out: &mut Vec<Output>) {
        let conversation = &mut self.conversation;
        self.splitter
            .finish(|item| conversation.take(hub, item, out));
    }
}

impl Conversation {
    /// Whether something could be made of the item.
    fn take(&mut self, hub: &mut Hub, item: Item<'_>, out: &mut Vec<Output>) -> bool {
        let (line, parsed) = match item {
            Item::Garbage { line, why } => (line, Err(format!("line {line}: {why}"))),
            Item::Value { bytes, line } => (line, parse(bytes, line)),
        };
        match parsed {
            Ok(value) => {
                self.request(hub, line, value, out);
                true
            }
            Err(message) => {
                out.push(refusal(None, None, vec![FieldError::whole(message)]));
                false
            }
        }
    }

    fn request(&mut self, hub: &mut Hub, line: u64, value: Value, out: &mut Vec<Output>) {
        let event = value.get("type").and_then(Value::as_str);
        let event = event.map(|event| event.chars().take(32).collect::<String>());
        let begun = std::mem::replace(&mut self.begun, true);
        let request = match Request::from_value(value) {
            Ok(request) => request,
            Err(mut errors) => {
                for error in &mut errors {
                    error.message = format!("line {line}: {}", error.message);
                }
                out.push(refusal(event, None, errors));
                return;
            }
        };
        let event = request.name();
        match request {
            Request::Hello { feeder } => out.push(self.hello(hub, begun, feeder)),
            Request::Added { object } | Request::Modified { object } => {
                each(event, object, out, |object| {
                    hub.apply(object, &self.owner).map(|()| None)
                });
            }
            Request::Validate { object } => each(event, object, out, |object| {
                resource::parse(object).map(|_| None)
            }),
            Request::Deleted { object } => {
                each(event, object, out, |object| delete(hub, object));
            }
            Request::Bookmark { object } => out.push(self.bookmark(hub, event, &object)),
            Request::Error { object } => out.push(watch_error(event, &object)),
            Request::Get(get) => match hub.get(&get) {
                Ok(lines) => out.extend(lines.into_iter().map(Output::Line)),
                Err(errors) => out.push(refusal(Some(event.to_owned()), None, errors)),
            },
            Request::Show(show) => out.push(Output::Show(show)),
            Request::Flush(flush) => out.push(Output::Flush(flush)),
        }
    }

    fn hello(&mut self, hub: &mut Hub, begun: bool, feeder: String) -> Output {
        if begun {
            let error = FieldError::new("type", "HELLO must be the first line of a session");
            return refusal(Some("HELLO".to_owned()), None, vec![error]);
        }
        self.owner.feeder = Arc::from(feeder.as_str());
        hub.rename(self.owner.session, &self.owner.feeder);
        let session = self.owner.session;
        Output::Line(Response::Hello { feeder, session }.to_line())
    }

    fn bookmark(&self, hub: &mut Hub, event: &str, object: &Value) -> Output {
        let identity = Identity::of(object);
        let annotation = object
            .get("metadata")
            .and_then(|meta| meta.get("annotations"))
            .and_then(|annotations| annotations.get(INITIAL_EVENTS_END))
            .and_then(Value::as_str);
        let note = (annotation == Some("true")).then(|| {
            let gone = match &identity.kind {
                None => hub.prune(&self.owner, None),
                // A list of a kind that is never kept has nothing to remove.
                Some(name) => {
                    Kind::from_name(name).map_or(0, |kind| hub.prune(&self.owner, Some(kind)))
                }
            };
            let s = if gone == 1 { "" } else { "s" };
            format!("end of the list; {gone} object{s} of earlier sessions removed")
        });
        acceptance(event, identity, note)
    }
}

/// Does something with each object of a list, or with the one object, and answers for each.
fn each(
    event: &str,
    object: Value,
    out: &mut Vec<Output>,
    mut apply: impl FnMut(&Value) -> Result<Option<String>, Vec<FieldError>>,
) {
    let identity = Identity::of(&object);
    let objects = match resource::expand(object) {
        Ok(objects) => objects,
        Err(errors) => {
            out.push(refusal(Some(event.to_owned()), Some(identity), errors));
            return;
        }
    };
    if objects.is_empty() {
        out.push(acceptance(
            event,
            identity,
            Some("an empty list".to_owned()),
        ));
    }
    for object in &objects {
        let identity = Identity::of(object);
        out.push(match apply(object) {
            Ok(note) => acceptance(event, identity, note),
            Err(errors) => refusal(Some(event.to_owned()), Some(identity), errors),
        });
    }
}

fn delete(hub: &mut Hub, object: &Value) -> Result<Option<String>, Vec<FieldError>> {
    let identity = Identity::of(object);
    let Some(key) = identity.key() else {
        let error = match identity.kind {
            None => FieldError::new("kind", "is required"),
            Some(name) if Kind::from_name(&name).is_none() => {
                FieldError::new("kind", kind::refusal(&name))
            }
            Some(_) => FieldError::new("metadata.name", "is required"),
        };
        return Err(vec![error]);
    };
    let removed = hub.remove(&key);
    Ok((!removed).then(|| NO_SUCH_OBJECT.to_owned()))
}

/// The feeder's own watch has failed: nothing changes here, and the feeder is told so.
fn watch_error(event: &str, object: &Value) -> Output {
    let said = object.get("message").and_then(Value::as_str);
    let said: String = said.unwrap_or("no message").chars().take(200).collect();
    let note = format!("nothing removed; the feeder's watch reported: {said}");
    acceptance(event, Identity::of(object), Some(note))
}

fn parse(bytes: &[u8], line: u64) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let at = line + u64::try_from(error.line()).unwrap_or(0).saturating_sub(1);
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        format!("line {at} column {}: not JSON: {what}", error.column())
    })
}

fn acceptance(event: &str, identity: Identity, note: Option<String>) -> Output {
    answer(Some(event.to_owned()), Some(identity), Vec::new(), note)
}

fn refusal(event: Option<String>, identity: Option<Identity>, errors: Vec<FieldError>) -> Output {
    answer(event, identity, errors, None)
}

fn answer(
    event: Option<String>,
    identity: Option<Identity>,
    errors: Vec<FieldError>,
    note: Option<String>,
) -> Output {
    let identity = identity.unwrap_or_default();
    let answer = Answer {
        event,
        kind: identity.kind,
        namespace: identity.namespace,
        name: identity.name,
        generation: identity.generation,
        accepted: errors.is_empty(),
        errors,
        note,
    };
    Output::Line(Response::Answer(answer).to_line())
}
