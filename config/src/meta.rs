//! Names of objects and the part of their metadata that is read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// Names an object: kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `default` where the object names none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// `namespace/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The part of an object's metadata that is read; the rest is tolerated and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The namespace, `default` where none is given.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Grows with every change of the spec; 0 where none is given (a file, or a Service).
    pub generation: i64,
    /// The API server's identity of the object.
    pub uid: Option<String>,
    /// The API server's version of the object, opaque.
    pub resource_version: Option<String>,
    /// RFC 3339 in UTC to the second, as the API server writes it; compared as text.
    pub creation_timestamp: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
