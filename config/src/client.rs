//! The lines of the config socket as types, for both of its ends.
//!
//! Every line is a JSON object with a `type`. A client writes [`Request`]s and reads
//! [`Response`]s: each request gets its answer in the order of the requests, and `STATE` lines
//! may come in between at any time.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::FieldError;
use crate::reader::{Errors, Node, quote};
use crate::resolve::State;

/// The feeder's name of a session that gives none.
pub const DEFAULT_FEEDER: &str = "default";

/// The annotation on the bookmark that ends a feeder's list.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The note on an accepted [`Request::Deleted`] that had nothing to delete.
pub const NO_SUCH_OBJECT: &str = "there was no such object";

/// What a client writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub enum Request {
    /// Names the feeder; the first line of a session, if it is there at all.
    Hello {
        /// 1–253 printable ASCII characters.
        feeder: String,
    },
    /// An object exists.
    Added {
        /// The object, or a `List` of objects.
        object: Value,
    },
    /// An object has changed.
    Modified {
        /// The object, or a `List` of objects.
        object: Value,
    },
    /// An object is gone.
    Deleted {
        /// The object, of which kind, namespace and name count.
        object: Value,
    },
    /// A mark in the stream; with the annotation [`INITIAL_EVENTS_END`] the end of the list.
    Bookmark {
        /// The kind whose list has ended, if it has one, and the annotations.
        object: Value,
    },
    /// The feeder's own watch has failed.
    Error {
        /// A Kubernetes `Status`.
        object: Value,
    },
    /// Validates an object without keeping it.
    Validate {
        /// The object, or a `List` of objects.
        object: Value,
    },
    /// Lists kept objects.
    Get(Get),
    /// Asks for one of the dataplane's tables.
    Show(Show),
    /// Ends connections.
    Flush(Flush),
}

/// Which objects to list; what is absent selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Get {
    /// The kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Most objects in the answer, 1–1000; 500 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on where the answer with this token ended.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Which table to show; what its names and filters are is up to the dataplane.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Show {
    /// Name of the table, such as `connections`.
    pub table: String,
    /// What rows must match.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub filter: Map<String, Value>,
    /// Most rows in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Which connections to end. The answer is a [`Response::End`] with their number.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Flush {
    /// What they must match, as in a [`Show`] of connections; empty for all of them.
    pub filter: Map<String, Value>,
}

impl Request {
    /// The word in `type`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::Added { .. } => "ADDED",
            Self::Modified { .. } => "MODIFIED",
            Self::Deleted { .. } => "DELETED",
            Self::Bookmark { .. } => "BOOKMARK",
            Self::Error { .. } => "ERROR",
            Self::Validate { .. } => "VALIDATE",
            Self::Get(_) => "GET",
            Self::Show(_) => "SHOW",
            Self::Flush(_) => "FLUSH",
        }
    }

    /// Reads a request. An object that comes without an event around it (a manifest, or a watch
    /// without event types) counts as added.
    ///
    /// Errors: everything that is wrong with the line around the object; the object itself is
    /// not looked into.
    pub fn from_value(mut value: Value) -> Result<Self, Vec<FieldError>> {
        let has = |field| value.get(field).is_some();
        if !has("object") && (has("apiVersion") || has("kind") && !has("type")) {
            return Ok(Self::Added { object: value });
        }
        let errors = Errors::default();
        let request = Self::read(&Node::root(&value, &errors));
        let list = errors.into_vec();
        let Some(mut request) = request.filter(|_| list.is_empty()) else {
            return Err(list);
        };
        if let Some(place) = request.object_mut() {
            *place = value.get_mut("object").map(Value::take).unwrap_or_default();
        }
        Ok(request)
    }

    /// Reads everything but the object.
    fn read(node: &Node<'_>) -> Option<Self> {
        let f = node.object()?;
        let kind = f.require("type", Node::string)?;
        let object = || f.require("object", |node| node.object().map(|_| Value::Null));
        let limit = |max| {
            f.take("limit", |node| node.integer(1..=max))
                .and_then(to_usize)
        };
        let text = |name| f.take(name, |node| node.name().map(str::to_owned));
        Some(match kind {
            "HELLO" => Self::Hello {
                feeder: f.require("feeder", feeder_name)?,
            },
            "ADDED" => Self::Added { object: object()? },
            "MODIFIED" => Self::Modified { object: object()? },
            "DELETED" => Self::Deleted { object: object()? },
            "BOOKMARK" => Self::Bookmark { object: object()? },
            "ERROR" => Self::Error { object: object()? },
            "VALIDATE" => Self::Validate { object: object()? },
            "GET" => Self::Get(Get {
                kind: text("kind"),
                namespace: text("namespace"),
                name: text("name"),
                limit: limit(1000),
                after: text("continue"),
            }),
            "SHOW" => Self::Show(Show {
                table: f.require("table", Node::name)?.to_owned(),
                filter: f
                    .take("filter", |node| {
                        node.object()?;
                        node.value().as_object().cloned()
                    })
                    .unwrap_or_default(),
                limit: limit(i64::MAX),
            }),
            // Without a filter it would end everything: that is to be said, by an empty one.
            "FLUSH" => Self::Flush(Flush {
                filter: f.require("filter", |node| {
                    node.object()?;
                    node.value().as_object().cloned()
                })?,
            }),
            other => {
                f.error_at(
                    "type",
                    format!(
                        "{} is not one of ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, HELLO, \
                         VALIDATE, GET, SHOW, FLUSH",
                        quote(other)
                    ),
                );
                return None;
            }
        })
    }

    fn object_mut(&mut self) -> Option<&mut Value> {
        match self {
            Self::Added { object }
            | Self::Modified { object }
            | Self::Deleted { object }
            | Self::Bookmark { object }
            | Self::Error { object }
            | Self::Validate { object } => Some(object),
            Self::Hello { .. } | Self::Get(_) | Self::Show(_) | Self::Flush(_) => None,
        }
    }
}

fn to_usize(value: i64) -> Option<usize> {
    usize::try_from(value).ok()
}

fn feeder_name(node: &Node<'_>) -> Option<String> {
    let name = node.name()?;
    if name.len() > 253 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return node.error(format!(
            "{} is not a feeder name (1-253 printable ASCII characters)",
            quote(name)
        ));
    }
    Some(name.to_owned())
}

/// What a client reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub enum Response {
    /// The answer to a [`Request::Hello`].
    Hello {
        /// The feeder's name.
        feeder: String,
        /// The number of the session.
        session: u64,
    },
    /// The answer to an event, or to one object of a list.
    Answer(Answer),
    /// An object this session has fed has come further, or less far.
    State(StateLine),
    /// An object, in the answer to a [`Request::Get`].
    Object(ObjectLine),
    /// A row, in the answer to a [`Request::Show`].
    Row {
        /// Name of the table.
        table: String,
        /// Its columns.
        row: Map<String, Value>,
    },
    /// The end of the objects or rows.
    End {
        /// How many there were.
        count: usize,
        /// There are more; for objects, the token that asks for them.
        #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
        more: Option<String>,
    },
}

impl Response {
    /// The answer to a request that names no object and cannot be met.
    pub fn refused(event: &str, errors: Vec<FieldError>) -> Self {
        Self::Answer(Answer {
            event: Some(event.to_owned()),
            errors,
            ..Answer::default()
        })
    }

    /// The line, with its newline.
    pub fn to_line(&self) -> String {
        // Serialising these types to memory cannot fail: no maps with keys that are not strings.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Whether an event was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The type of the request, where it could be told.
    #[serde(default)]
    pub event: Option<String>,
    /// Kind of the object, where it could be told.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its generation.
    pub generation: Option<i64>,
    /// Whether all of it was accepted.
    pub accepted: bool,
    /// Everything that is wrong with it; empty if and only if it was accepted.
    pub errors: Vec<FieldError>,
    /// Something worth saying that is no error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How far an object has come; fit for a status condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLine {
    /// Kind of the object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The generation this is about: the last good one.
    pub generation: i64,
    /// How far it has come.
    pub state: State,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence; empty for a programmed object.
    pub message: String,
}

/// A kept object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectLine {
    /// The last good version as it was given.
    pub object: Value,
    /// Who fed it last.
    pub feeder: String,
    /// How far it has come, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
