//! One object: from JSON to a validated [`Resource`], or the list of everything wrong with it.

mod diameter;
mod egress;
mod endpoint_slice;
mod ingress;
mod list;
mod monitors;
mod ngap;
mod service;
mod snatpool;
mod static_route;
mod vlan;

use std::collections::BTreeMap;

use serde_json::Value;

pub use egress::EgressSpec;
pub use endpoint_slice::{Endpoint, EndpointPort, EndpointSlice, Family};
pub use ingress::{Ingress, ServicePortRef, VlanSelector};
pub use list::expand;
pub(crate) use monitors::{INTERVAL as MONITOR_INTERVAL, TIMEOUT as MONITOR_TIMEOUT};
pub use service::{PortProtocol, Service, ServicePort};
pub use snatpool::SnatpoolSpec;
pub use static_route::StaticRouteSpec;
pub use vlan::VlanSpec;

use crate::error::FieldError;
use crate::kind::{self, Kind};
use crate::meta::{Metadata, ObjectKey};
use crate::reader::{Errors, Fields, Node};
use crate::sketch::Sketch;
use crate::types::Protocol;

/// A validated object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its metadata.
    pub meta: Metadata,
    /// What it says.
    pub resource: Resource,
}

impl Object {
    /// Kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.resource.kind(),
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone(),
        }
    }
}

/// What an object says, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// `F5SPKVlan`.
    Vlan(VlanSpec),
    /// `F5SPKStaticRoute`.
    StaticRoute(StaticRouteSpec),
    /// `F5SPKIngressTCP`, `F5SPKIngressUDP` and `F5SPKIngressNGAP`, by protocol.
    Ingress(Ingress),
    /// `F5SPKIngressDiameter`: TCP, SCTP or both.
    Diameter(Vec<Ingress>),
    /// `F5SPKSnatpool`.
    Snatpool(SnatpoolSpec),
    /// `F5SPKEgress`.
    Egress(EgressSpec),
    /// `Service`.
    Service(Service),
    /// `EndpointSlice`.
    EndpointSlice(EndpointSlice),
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Vlan(_) => Kind::Vlan,
            Self::StaticRoute(_) => Kind::StaticRoute,
            Self::Ingress(ingress) => match ingress.protocol {
                Protocol::Tcp => Kind::IngressTcp,
                Protocol::Udp => Kind::IngressUdp,
                Protocol::Sctp => Kind::IngressNgap,
            },
            Self::Diameter(_) => Kind::IngressDiameter,
            Self::Snatpool(_) => Kind::Snatpool,
            Self::Egress(_) => Kind::Egress,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }

    /// What it says of virtual servers, by protocol.
    pub fn ingresses(&self) -> &[Ingress] {
        match self {
            Self::Ingress(ingress) => std::slice::from_ref(ingress),
            Self::Diameter(ingresses) => ingresses,
            _ => &[],
        }
    }
}

/// What could be read of the identity of an object, valid or not, for the answer about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The kind as written.
    pub kind: Option<String>,
    /// The namespace as written, or `default`.
    pub namespace: Option<String>,
    /// The name as written.
    pub name: Option<String>,
    /// The generation as written.
    pub generation: Option<i64>,
}

impl Identity {
    /// Reads what is there; never fails.
    pub fn of(value: &Value) -> Self {
        let text = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str).filter(|t| !t.is_empty())?;
            Some(text.chars().take(MAX_NAME).collect::<String>())
        };
        let meta = value.get("metadata");
        let field = |name| meta.and_then(|meta| meta.get(name));
        let name = text(field("name"));
        Self {
            kind: text(value.get("kind")),
            namespace: text(field("namespace"))
                .or_else(|| name.is_some().then(|| DEFAULT_NAMESPACE.to_owned())),
            name,
            generation: field("generation").and_then(Value::as_i64),
        }
    }

    /// The key, if the kind is a programmed one and there is a name.
    pub fn key(&self) -> Option<ObjectKey> {
        Some(ObjectKey {
            kind: Kind::from_name(self.kind.as_deref()?)?,
            namespace: self.namespace.clone()?,
            name: self.name.clone()?,
        })
    }
}

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Longest name, namespace or label value (RFC 1123 subdomains as Kubernetes bounds them).
const MAX_NAME: usize = 253;

/// Validates one object.
///
/// Errors: everything that is wrong with it, each with the path of its field, at most 50 and then
/// their number.
pub fn parse(value: &Value) -> Result<Object, Vec<FieldError>> {
    let errors = Errors::default();
    let object = read(&Node::root(value, &errors));
    match object {
        Some(object) if errors.is_empty() => Ok(object),
        _ => {
            let mut list = errors.into_vec();
            if list.is_empty() {
                list.push(FieldError::whole("the object is incomplete"));
            }
            Err(list)
        }
    }
}

fn read(node: &Node<'_>) -> Option<Object> {
    let fields = node.object()?;
    let kind = fields.require("kind", |node| {
        let name = node.string()?;
        match Kind::from_name(name) {
            Some(kind) => Some(kind),
            None => node.error(kind::refusal(name)),
        }
    });
    let api_version = fields.require("apiVersion", |node| {
        let version = node.string()?;
        match kind {
            Some(kind) if !kind.accepts(version) => {
                let mut accepted = format!("\"{}\"", kind.api_version());
                for older in kind.older_versions() {
                    accepted = format!("{accepted}, \"{older}\"");
                }
                node.error(format!(
                    "{} is not the apiVersion of {kind} (accepted: {accepted})",
                    crate::reader::quote(version),
                ))
            }
            _ => Some(()),
        }
    });
    // Without a kind there is nothing to hold the rest against.
    let kind = kind?;
    let meta = fields.require("metadata", |node| read_metadata(&node.object()?));
    fields.tolerate("status");
    let resource = read_kind(kind, fields, meta.as_ref());
    api_version?;
    Some(Object {
        meta: meta?,
        resource: resource?,
    })
}

/// Everything but the envelope.
fn read_kind(kind: Kind, fields: Fields<'_>, meta: Option<&Metadata>) -> Option<Resource> {
    match kind {
        Kind::Vlan => strict(fields, |f| {
            f.require("spec", vlan::read).map(Resource::Vlan)
        }),
        Kind::StaticRoute => strict(fields, |f| {
            f.require("spec", static_route::read)
                .map(Resource::StaticRoute)
        }),
        Kind::IngressTcp => strict(fields, |f| {
            ingress::read(f, Protocol::Tcp).map(Resource::Ingress)
        }),
        Kind::IngressUdp => strict(fields, |f| {
            ingress::read(f, Protocol::Udp).map(Resource::Ingress)
        }),
        Kind::IngressNgap => strict(fields, |f| ngap::read(f).map(Resource::Ingress)),
        Kind::IngressDiameter => strict(fields, |f| diameter::read(f).map(Resource::Diameter)),
        Kind::Snatpool => strict(fields, |f| {
            f.require("spec", snatpool::read).map(Resource::Snatpool)
        }),
        Kind::Egress => strict(fields, |f| {
            f.require("spec", egress::read).map(Resource::Egress)
        }),
        // The core kinds carry far more than is read here, and grow with every release.
        Kind::Service => fields.require("spec", service::read).map(Resource::Service),
        Kind::EndpointSlice => endpoint_slice::read(&fields, meta).map(Resource::EndpointSlice),
    }
}

/// What the reader of a kind asks for.
pub(crate) fn sketch(kind: Kind) -> Sketch {
    let sketch = Sketch::default();
    let errors = Errors::default();
    let _ = read_kind(kind, Fields::sketched(&sketch, &errors), None);
    sketch
}

/// Reads, then reports unknown fields.
fn strict<'a, T>(fields: Fields<'a>, read: impl FnOnce(&Fields<'a>) -> Option<T>) -> Option<T> {
    let value = read(&fields);
    fields.deny_unknown();
    value
}

fn read_metadata(fields: &Fields<'_>) -> Option<Metadata> {
    let named = |node: &Node<'_>| {
        let name = node.name()?;
        if name.len() > MAX_NAME {
            return node.error(format!("is longer than {MAX_NAME} bytes"));
        }
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        if !bytes.iter().copied().all(allowed) || !edge(bytes.first()) || !edge(bytes.last()) {
            return node.error(format!(
                "{} is not a Kubernetes name (lower-case letters, digits, \"-\" and \".\")",
                crate::reader::quote(name)
            ));
        }
        Some(name.to_owned())
    };
    let text = |node: &Node<'_>| node.string().map(str::to_owned);
    let namespace = fields.take("namespace", |node| match node.value() {
        // kubectl writes "" for "no namespace".
        Value::String(text) if text.is_empty() => Some(DEFAULT_NAMESPACE.to_owned()),
        _ => named(node),
    });
    let namespace_ok = namespace.is_some() || !fields.has("namespace");
    let name = fields.require("name", named);
    let generation = fields
        .take("generation", |node| node.integer(0..=i64::MAX))
        .unwrap_or(0);
    let uid = fields.take("uid", text);
    let resource_version = fields.take("resourceVersion", text);
    let creation_timestamp = fields.take("creationTimestamp", |node| {
        let text = node.string()?;
        if is_utc_timestamp(text) {
            Some(text.to_owned())
        } else {
            node.error(format!(
                "{} is not a time like 2026-01-31T12:00:00Z",
                crate::reader::quote(text)
            ))
        }
    });
    let labels = fields.take("labels", |node| {
        let Value::Object(map) = node.value() else {
            return node.error("is not an object");
        };
        let mut labels = BTreeMap::new();
        for (label, value) in map {
            let Some(value) = value.as_str() else {
                return node.error(format!(
                    "the value of {} is not a string",
                    crate::reader::quote(label)
                ));
            };
            labels.insert(label.clone(), value.to_owned());
        }
        Some(labels)
    });
    if !namespace_ok {
        return None;
    }
    Some(Metadata {
        namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        name: name?,
        generation,
        uid,
        resource_version,
        creation_timestamp,
        labels: labels.unwrap_or_default(),
    })
}

/// `YYYY-MM-DDThh:mm:ss[.fraction]Z`, by shape: it is only ever compared as text.
fn is_utc_timestamp(text: &str) -> bool {
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let Some((head, tail)) = text.as_bytes().split_at_checked(shape.len()) else {
        return false;
    };
    let head_fits = head.iter().zip(shape).all(|(byte, want)| match want {
        b'd' => byte.is_ascii_digit(),
        want => byte == want,
    });
    let tail_fits = match tail {
        b"Z" => true,
        [b'.', digits @ .., b'Z'] => {
            !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    head_fits && tail_fits
}
