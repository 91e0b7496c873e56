//! The last good version of every object.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::error::FieldError;
use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::resource::{self, Identity, Object};

/// What a store takes before it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most objects.
    pub objects: usize,
    /// Most bytes of all objects together, as compact JSON.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            objects: 100_000,
            bytes: 512 * 1024 * 1024,
        }
    }
}

/// Who gave an object, and in which of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the feeder.
    pub feeder: Arc<str>,
    /// The session; a later session has a greater number.
    pub session: u64,
}

impl Owner {
    /// An owner outside the socket's sessions, such as a file.
    pub fn fixed(name: &str) -> Self {
        Self {
            feeder: name.into(),
            session: 0,
        }
    }
}

/// An object as it is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The validated object.
    pub object: Object,
    /// The object as it was given, as compact JSON without `metadata.managedFields`.
    pub text: Box<str>,
    /// Who gave it last.
    pub owner: Owner,
}

/// What an accepted object did to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It replaces an earlier version.
    Updated,
    /// It says what was known already.
    Unchanged,
}

/// All objects, by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<ObjectKey, Stored>,
    bytes: usize,
    limits: Limits,
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Validates an object and keeps it.
    ///
    /// Errors: what is wrong with it, or that the store is full. The last good version of the
    /// object stays then, and counts as seen in the owner's session.
    pub fn apply(
        &mut self,
        value: &Value,
        owner: &Owner,
    ) -> Result<(ObjectKey, Change), Vec<FieldError>> {
        let applied = resource::parse(value).and_then(|object| self.insert(object, value, owner));
        if applied.is_err() {
            self.touch(value, owner);
        }
        applied
    }

    fn insert(
        &mut self,
        object: Object,
        value: &Value,
        owner: &Owner,
    ) -> Result<(ObjectKey, Change), Vec<FieldError>> {
        let key = object.key();
        let text = compact(value);
        let old = self.objects.get(&key);
        let old_bytes = old.map_or(0, |old| old.text.len());
        let refuse = |what: String| Err(vec![FieldError::whole(what)]);
        if old.is_none() && self.objects.len() >= self.limits.objects {
            return refuse(format!(
                "the store is full: {} objects is the most it keeps",
                self.limits.objects
            ));
        }
        let bytes = self.bytes - old_bytes + text.len();
        if bytes > self.limits.bytes && text.len() > old_bytes {
            return refuse(format!(
                "the store is full: {} bytes is the most it keeps",
                self.limits.bytes
            ));
        }
        let change = match old {
            None => Change::Created,
            Some(old) if old.object == object => Change::Unchanged,
            Some(_) => Change::Updated,
        };
        self.bytes = bytes;
        let stored = Stored {
            object,
            text,
            owner: owner.clone(),
        };
        self.objects.insert(key.clone(), stored);
        Ok((key, change))
    }

    /// A refused version still says that its feeder knows the object.
    fn touch(&mut self, value: &Value, owner: &Owner) {
        let stored = Identity::of(value)
            .key()
            .and_then(|key| self.objects.get_mut(&key));
        if let Some(stored) = stored.filter(|stored| stored.owner.feeder == owner.feeder) {
            stored.owner.session = stored.owner.session.max(owner.session);
        }
    }

    /// Forgets an object; whether it was there.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        let Some(stored) = self.objects.remove(key) else {
            return false;
        };
        self.bytes -= stored.text.len();
        true
    }

    /// Forgets what earlier sessions of `owner`'s feeder gave and this one did not, of one kind
    /// or of all; the keys of what is gone.
    pub fn prune(&mut self, owner: &Owner, kind: Option<Kind>) -> Vec<ObjectKey> {
        let gone: Vec<ObjectKey> = self
            .objects
            .iter()
            .filter(|(key, stored)| {
                kind.is_none_or(|kind| kind == key.kind)
                    && stored.owner.feeder == owner.feeder
                    && stored.owner.session < owner.session
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.remove(key);
        }
        gone
    }

    /// The object of that key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// All objects, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Stored)> {
        self.objects.iter()
    }

    /// All objects after `key` in that order.
    pub fn after<'s>(
        &'s self,
        key: &ObjectKey,
    ) -> impl Iterator<Item = (&'s ObjectKey, &'s Stored)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.objects.range((Excluded(key), Unbounded))
    }

    /// All objects of a kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ObjectKey, &Stored)> {
        let first = ObjectKey {
            kind,
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How many bytes they take as compact JSON.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The object as compact JSON, without the bulk that only the API server has a use for.
fn compact(value: &Value) -> Box<str> {
    let managed = value
        .get("metadata")
        .is_some_and(|meta| meta.get("managedFields").is_some());
    if !managed {
        return value.to_string().into();
    }
    let mut value = value.clone();
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        meta.remove("managedFields");
    }
    value.to_string().into()
}
