//! References followed, conflicts settled: from the [`Store`] to a [`Config`] and a state per
//! object.
//!
//! The result is a function of the set of objects alone, whatever the order in which they came:
//! where two objects claim the same thing, the older one keeps it (by creation timestamp, objects
//! without one last, then by namespace and name).

mod routes;
mod snat_pools;
mod virtual_servers;
mod vlans;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::meta::ObjectKey;
use crate::store::{Store, Stored};
use crate::types::Config;

/// How far an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// It is carried out in full.
    Programmed,
    /// It waits, in part or in whole, for something else to appear.
    Pending,
    /// It is in conflict with another object and cannot be carried out.
    Error,
}

/// Why an object is not carried out in full: the `reason` of a status condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReasonCode {
    /// The Service does not exist.
    ServiceNotFound,
    /// The Service has no such port.
    ServicePortNotFound,
    /// The Service has no endpoint that takes new flows.
    NoReadyEndpoint,
    /// A VLAN that is named, or a category, does not exist.
    VlanNotFound,
    /// The list of self IPs has no position for this replica: it stays standby.
    NoSelfIp,
    /// The gateway is on no VLAN's subnet.
    GatewayUnreachable,
    /// An interface that is named is not a port of this process.
    PortNotFound,
    /// A table has no room left.
    CapacityExceeded,
    /// The SNAT pool that is named does not exist.
    SnatPoolNotFound,
    /// The SNAT pool has no address for this replica or family.
    NoSnatAddress,
    /// Another object has claimed the same.
    Conflict,
}

impl ReasonCode {
    /// The word status conditions carry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceNotFound => "ServiceNotFound",
            Self::ServicePortNotFound => "ServicePortNotFound",
            Self::NoReadyEndpoint => "NoReadyEndpoint",
            Self::VlanNotFound => "VlanNotFound",
            Self::NoSelfIp => "NoSelfIp",
            Self::GatewayUnreachable => "GatewayUnreachable",
            Self::PortNotFound => "PortNotFound",
            Self::CapacityExceeded => "CapacityExceeded",
            Self::SnatPoolNotFound => "SnatPoolNotFound",
            Self::NoSnatAddress => "NoSnatAddress",
            Self::Conflict => "Conflict",
        }
    }
}

/// One reason, as a word and as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For machines.
    pub code: ReasonCode,
    /// For people.
    pub message: String,
}

/// How far one object has come, and why no further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectState {
    /// The object.
    pub key: ObjectKey,
    /// The generation this is about: that of the last good version.
    pub generation: i64,
    /// How far it has come.
    pub state: State,
    /// Why no further; empty if and only if it is programmed. No reason is given twice.
    pub reasons: Vec<Reason>,
}

impl ObjectState {
    /// The reason for a status condition: that of the first reason, or `Programmed`.
    pub fn reason(&self) -> &'static str {
        self.reasons
            .first()
            .map_or("Programmed", |reason| reason.code.name())
    }

    /// Adds what was found out after [`resolve`], while the configuration was programmed; an
    /// object that was programmed is pending then.
    pub fn hold_back(&mut self, code: ReasonCode, message: String) {
        let state = match code {
            ReasonCode::Conflict => State::Error,
            _ => State::Pending,
        };
        self.state = self.state.max(state);
        let reason = Reason { code, message };
        if !self.reasons.contains(&reason) && self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason);
        }
    }

    /// All reasons in one line; empty when there are none.
    pub fn message(&self) -> String {
        let mut all = String::new();
        for reason in &self.reasons {
            if !all.is_empty() {
                all.push_str("; ");
            }
            all.push_str(&reason.message);
        }
        all
    }
}

/// Most reasons kept per object; what is beyond is counted.
const MAX_REASONS: usize = 16;

/// Reasons gathered while an object is resolved.
#[derive(Debug, Clone, Default)]
struct Reasons {
    list: Vec<Reason>,
    beyond: usize,
}

impl Reasons {
    fn add(&mut self, code: ReasonCode, message: String) {
        let reason = Reason { code, message };
        // A conflict decides the state, so the first one always has a place.
        let conflict = code == ReasonCode::Conflict && !self.has_conflict();
        if self.list.contains(&reason) {
            return;
        }
        if self.list.len() < MAX_REASONS || conflict {
            self.list.push(reason);
        } else {
            self.beyond += 1;
        }
    }

    fn has_conflict(&self) -> bool {
        self.list.iter().any(|r| r.code == ReasonCode::Conflict)
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Conflicts first: they decide the state.
    fn into_state(mut self, key: &ObjectKey, stored: &Stored) -> ObjectState {
        self.list
            .sort_by_key(|reason| reason.code != ReasonCode::Conflict);
        let state = match self.list.first() {
            None => State::Programmed,
            Some(first) if first.code == ReasonCode::Conflict => State::Error,
            Some(_) => State::Pending,
        };
        if self.beyond > 0
            && let Some(last) = self.list.last_mut()
        {
            last.message = format!("{} (and {} more)", last.message, self.beyond);
        }
        ObjectState {
            key: key.clone(),
            generation: stored.object.meta.generation,
            state,
            reasons: self.list,
        }
    }
}

/// What replica number `replica` (from 0) is to program, and how far each object has come, in
/// the order of [`Store::iter`].
///
/// Never fails: what cannot be carried out is left out and said so in its object's state. The
/// cost grows with the number of objects and references, not with their square.
pub fn resolve(store: &Store, replica: usize) -> (Config, Vec<ObjectState>) {
    let mut states = Vec::with_capacity(store.len());
    let vlans = vlans::resolve(store, replica, &mut states);
    let routes = routes::resolve(store, &vlans, &mut states);
    let snat_pools = snat_pools::resolve(store, replica, &vlans, &mut states);
    let (virtual_servers, egresses) =
        virtual_servers::resolve(store, &vlans, &snat_pools, &mut states);
    for kind in [Kind::Service, Kind::EndpointSlice] {
        let plain = |(key, stored)| Reasons::default().into_state(key, stored);
        states.extend(store.of_kind(kind).map(plain));
    }
    states.sort_by(|a, b| a.key.cmp(&b.key));
    let config = Config {
        replica,
        vlans,
        routes,
        snat_pools,
        egresses,
        virtual_servers,
    };
    (config, states)
}

/// The objects of some kinds, oldest first.
fn oldest_first<'s>(store: &'s Store, kinds: &[Kind]) -> Vec<(&'s ObjectKey, &'s Stored)> {
    let mut objects: Vec<_> = kinds.iter().flat_map(|kind| store.of_kind(*kind)).collect();
    objects.sort_by_cached_key(|(key, stored)| {
        let created = stored.object.meta.creation_timestamp.as_deref();
        (
            created.is_none(),
            created,
            &key.namespace,
            &key.name,
            key.kind,
        )
    });
    objects
}
