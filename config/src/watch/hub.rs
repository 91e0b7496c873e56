//! What all feeders have given, and who is to be told what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::session::Session;
use crate::client::{DEFAULT_FEEDER, Get, ObjectLine, Response, StateLine};
use crate::error::FieldError;
use crate::kind::{self, Kind};
use crate::meta::ObjectKey;
use crate::resolve::ObjectState;
use crate::store::{Change, Limits, Owner, Store, Stored};

/// What has changed since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// The set of objects: resolve, compile, then [`Hub::publish`].
    pub objects: bool,
    /// Only who is to be told: [`Hub::republish`] does.
    pub audience: bool,
}

impl Changes {
    /// Whether there is something to do.
    pub const fn any(self) -> bool {
        self.objects || self.audience
    }
}

/// What all feeders have given.
#[derive(Debug, Default)]
pub struct Hub {
    pub(super) store: Store,
    changes: Changes,
    last_session: u64,
    /// Feeders of the open sessions.
    live: BTreeMap<u64, Arc<str>>,
    /// The latest states, and the session each was last told to.
    states: HashMap<ObjectKey, Told>,
}

#[derive(Debug)]
struct Told {
    state: ObjectState,
    to: Option<u64>,
}

impl Hub {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self::with_store(Store::new(limits))
    }

    /// Begins with objects from elsewhere, such as files.
    pub fn with_store(store: Store) -> Self {
        Self {
            changes: Changes {
                objects: !store.is_empty(),
                audience: false,
            },
            store,
            ..Self::default()
        }
    }

    /// The objects, for [`crate::resolve()`].
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Opens a session for a new connection; [`Hub::close`] must follow.
    pub fn open(&mut self) -> Session {
        self.last_session += 1;
        let owner = Owner {
            feeder: DEFAULT_FEEDER.into(),
            session: self.last_session,
        };
        self.live.insert(owner.session, Arc::clone(&owner.feeder));
        Session::new(owner)
    }

    /// Forgets a session whose connection has ended; its objects stay.
    pub fn close(&mut self, session: &Session) {
        self.live.remove(&session.id());
    }

    /// Whether something has changed since the last [`Hub::take_changes`].
    pub fn dirty(&self) -> bool {
        self.changes.any()
    }

    /// What has changed since it was last asked; any number of events are one change.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn rename(&mut self, session: u64, feeder: &Arc<str>) {
        self.live.insert(session, Arc::clone(feeder));
    }

    pub(super) fn apply(&mut self, object: &Value, owner: &Owner) -> Result<(), Vec<FieldError>> {
        let (key, change) = self.store.apply(object, owner)?;
        match change {
            Change::Created | Change::Updated => {
                // What was told of the version before says nothing of this one: its feeder waits to
                // hear that the new one is carried out, even if the words are the same.
                self.states.remove(&key);
                self.changes.objects = true;
            }
            Change::Unchanged => {
                // Told once more, after the answer: the feeder cannot know whether what it has
                // heard before was about this version.
                if let Some(told) = self.states.get_mut(&key) {
                    told.to = None;
                }
                self.changes.audience = true;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> bool {
        let removed = self.store.remove(key);
        self.changes.objects |= removed;
        removed
    }

    pub(super) fn prune(&mut self, owner: &Owner, kind: Option<Kind>) -> usize {
        let gone = self.store.prune(owner, kind).len();
        self.changes.objects |= gone > 0;
        gone
    }

    /// Takes the states of all objects once they hold in the dataplane; returns the lines to
    /// send, each with the number of the session it is for. Told are the sessions that feed the
    /// objects, and only what they have not been told yet.
    pub fn publish(&mut self, states: Vec<ObjectState>) -> Vec<(u64, String)> {
        let mut before = std::mem::take(&mut self.states);
        self.states.reserve(states.len());
        let mut lines = Vec::new();
        for state in states {
            let Some(stored) = self.store.get(&state.key) else {
                continue;
            };
            let to = listener(&self.live, &stored.owner);
            let old = before.remove(&state.key);
            let known = old.is_some_and(|old| old.to == to && old.state == state);
            if let (false, Some(to)) = (known, to) {
                lines.push((to, state_line(&state)));
            }
            self.states.insert(state.key.clone(), Told { state, to });
        }
        lines
    }

    /// Tells the latest states to sessions that have come to feed objects since.
    pub fn republish(&mut self) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        for (key, told) in &mut self.states {
            let Some(stored) = self.store.get(key) else {
                continue;
            };
            let to = listener(&self.live, &stored.owner);
            if let Some(session) = to.filter(|_| told.to != to) {
                lines.push((session, state_line(&told.state)));
            }
            told.to = to;
        }
        lines.sort_unstable();
        lines
    }

    /// One page of the objects a request selects: `OBJECT` lines, then `END`.
    ///
    /// Errors: an unknown kind, or a token that is none.
    pub(super) fn get(&self, get: &Get) -> Result<Vec<String>, Vec<FieldError>> {
        /// Most bytes of one page.
        const PAGE: usize = 4 * 1024 * 1024;
        let kind = match &get.kind {
            None => None,
            Some(name) => Some(
                Kind::from_name(name)
                    .ok_or_else(|| vec![FieldError::new("kind", kind::refusal(name))])?,
            ),
        };
        let first = ObjectKey {
            kind: kind.unwrap_or(Kind::ALL[0]),
            namespace: String::new(),
            name: String::new(),
        };
        let start = match &get.after {
            None => first,
            Some(token) => parse_token(token).ok_or_else(|| {
                vec![FieldError::new(
                    "continue",
                    "is not a token of an earlier answer",
                )]
            })?,
        };
        let limit = get.limit.unwrap_or(500);
        let mut lines = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        let mut more = None;
        for (key, stored) in self.store.after(&start) {
            let fits = kind.is_none_or(|kind| kind == key.kind)
                && get.namespace.as_ref().is_none_or(|ns| *ns == key.namespace)
                && get.name.as_ref().is_none_or(|name| *name == key.name);
            if !fits {
                continue;
            }
            if lines.len() >= limit || bytes > PAGE {
                more = last;
                break;
            }
            let line = self.object_line(key, stored);
            bytes += line.len();
            lines.push(line);
            last = Some(format!("{}/{}/{}", key.kind, key.namespace, key.name));
        }
        let count = lines.len();
        lines.push(Response::End { count, more }.to_line());
        Ok(lines)
    }

    fn object_line(&self, key: &ObjectKey, stored: &Stored) -> String {
        let state = self.states.get(key).map(|told| &told.state);
        Response::Object(ObjectLine {
            object: serde_json::from_str(&stored.text).unwrap_or_default(),
            feeder: stored.owner.feeder.to_string(),
            state: state.map(|state| state.state),
            reason: state.map(|state| state.reason().to_owned()),
            message: state.map(ObjectState::message),
        })
        .to_line()
    }
}

/// The session that is told about an object: the one that gave it, else its feeder's latest.
fn listener(live: &BTreeMap<u64, Arc<str>>, owner: &Owner) -> Option<u64> {
    if live.contains_key(&owner.session) {
        return Some(owner.session);
    }
    let latest = live.iter().rev().find(|(_, name)| **name == owner.feeder);
    latest.map(|(session, _)| *session)
}

fn state_line(state: &ObjectState) -> String {
    Response::State(StateLine {
        kind: state.key.kind.name().to_owned(),
        namespace: state.key.namespace.clone(),
        name: state.key.name.clone(),
        generation: state.generation,
        state: state.state,
        reason: state.reason().to_owned(),
        message: state.message(),
    })
    .to_line()
}

fn parse_token(token: &str) -> Option<ObjectKey> {
    let (kind, rest) = token.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    Some(ObjectKey {
        kind: Kind::from_name(kind)?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
