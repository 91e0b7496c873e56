//! The custom resource definitions, made from what the readers of [`crate::resource`] ask for.
//!
//! Fields, types, ranges, words, bounds and what is required come from the readers themselves, run
//! on a sketch instead of a value: they cannot differ from what is validated. Only what a reader
//! cannot tell is written here: the sentences of [`notes`], the rules over several fields of
//! [`rules`] (in CEL), and how each form of text looks to an API server. A property test holds the
//! definitions against the readers, object by object.
//!
//! What an API server cannot judge is left to tmm, which says it in the object's status: the host
//! bits of a prefix, addresses that are listed twice, the network address of a subnet.

mod notes;
mod rules;

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::resource;
use crate::sketch::{Place, Shape, Sketch, Text};

/// The group all objects of tmm can be listed by: `kubectl get tmm -A`.
const CATEGORY: &str = "tmm";

/// The definitions of all custom kinds, as objects for the API server.
pub fn definitions() -> Vec<Value> {
    let custom = Kind::ALL.into_iter().filter(|kind| kind.is_custom());
    custom.map(definition).collect()
}

/// The definition of a custom kind as YAML: a document that ends with a line break.
pub fn yaml(kind: Kind) -> String {
    // Serialising JSON cannot fail: all keys are strings.
    serde_saphyr::to_string(&definition(kind)).unwrap_or_default()
}

/// The definition of a custom kind.
pub fn definition(kind: Kind) -> Value {
    let (group, version) = kind.api_version().split_once('/').unwrap_or_default();
    let plural = kind.plural();
    let singular = match kind {
        Kind::Egress => "f5-spk-egress",
        _ => plural.strip_suffix('s').unwrap_or(plural),
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "labels": {"app.kubernetes.io/part-of": "tmm"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name(),
                "listKind": format!("{}List", kind.name()),
                "plural": plural,
                "singular": singular,
                "shortNames": short_names(kind),
                "categories": [CATEGORY],
            },
            "versions": versions(kind, version),
        },
    })
}

/// The versions of a kind, which differ in name only; the newest is stored.
fn versions(kind: Kind, newest: &str) -> Value {
    let older = kind.older_versions().iter();
    let older = older.filter_map(|version| Some((version.split_once('/')?.1, false)));
    older
        .chain([(newest, true)])
        .map(|(name, storage)| {
            json!({
                "name": name,
                "served": true,
                "storage": storage,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(kind),
                "schema": {"openAPIV3Schema": schema(kind)},
            })
        })
        .collect()
}

/// What kubectl knows the kind by, besides its plural and singular.
const fn short_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Vlan => &["spkvlan"],
        Kind::StaticRoute => &["spkstaticroute"],
        Kind::IngressTcp => &["spkingresstcp"],
        Kind::IngressUdp => &["spkingressudp"],
        Kind::IngressNgap => &["spkingressngap"],
        Kind::IngressDiameter => &["spkingressdiameter"],
        Kind::Snatpool => &["spksnatpool"],
        Kind::Egress => &["spkegress"],
        Kind::Service | Kind::EndpointSlice => &[],
    }
}

/// What `kubectl get` shows of the kind, beside its name.
fn columns(kind: Kind) -> Value {
    let own: &[(&str, &str, &str, u8)] = match kind {
        Kind::Vlan => &[
            ("Tag", "integer", ".spec.tag", 0),
            ("Interfaces", "string", ".spec.interfaces", 0),
            ("Self IPs", "string", ".spec.selfip_v4s", 1),
            ("IPv6 self IPs", "string", ".spec.selfip_v6s", 1),
        ],
        Kind::StaticRoute => &[
            ("Destination", "string", ".spec.destination", 0),
            ("Length", "integer", ".spec.prefixLen", 0),
            ("Gateway", "string", ".spec.gateway", 0),
            ("Interface", "string", ".spec.interface", 1),
        ],
        Kind::IngressDiameter => &[
            ("TCP", "string", ".spec.externalTCP.destinationAddress", 0),
            ("SCTP", "string", ".spec.externalSCTP.destinationAddress", 0),
            ("Service", "string", ".service.name", 0),
            ("SNAT", "string", ".spec.snat", 1),
        ],
        Kind::Snatpool => &[("Pool", "string", ".spec.name", 0)],
        Kind::Egress => &[
            ("SNAT pool", "string", ".spec.egressSnatpool", 0),
            ("SNAT", "string", ".spec.snatType", 0),
            ("Dual stack", "boolean", ".spec.dualStackEnabled", 0),
            ("Mapping", "string", ".spec.natMapping", 1),
            ("Filtering", "string", ".spec.natFiltering", 1),
        ],
        _ => &[
            ("Address", "string", ".spec.destinationAddress", 0),
            ("IPv6 address", "string", ".spec.ipv6destinationAddress", 0),
            ("Port", "integer", ".spec.destinationPort", 0),
            ("Service", "string", ".service.name", 0),
            ("SNAT", "string", ".spec.snat", 1),
        ],
    };
    let condition = |field: &str| format!(".status.conditions[?(@.type==\"{CONDITION}\")].{field}");
    let status = [
        (CONDITION, "string", condition("status"), 0),
        ("Reason", "string", condition("reason"), 0),
        ("Message", "string", condition("message"), 1),
        ("Age", "date", ".metadata.creationTimestamp".to_owned(), 0),
    ];
    let own = own
        .iter()
        .map(|(name, kind, path, priority)| (*name, *kind, (*path).to_owned(), *priority));
    let column = |(name, kind, path, priority): (&str, &str, String, u8)| {
        let mut column = json!({"name": name, "type": kind, "jsonPath": path});
        if priority > 0 {
            column["priority"] = priority.into();
        }
        column
    };
    own.chain(status).map(column).collect()
}

/// The condition that says whether tmm carries an object out.
pub const CONDITION: &str = "Programmed";

/// The OpenAPI v3 schema of a custom kind.
pub fn schema(kind: Kind) -> Value {
    let sketch = resource::sketch(kind);
    let mut root = build(kind, &sketch, "", &Shape::Object);
    root["description"] = notes::of(kind, "").unwrap_or_default().into();
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        let text = |what: &str| json!({"type": "string", "description": what});
        let mut all = Map::new();
        all.insert(
            "apiVersion".into(),
            text("The group and version of the kind."),
        );
        all.insert("kind".into(), text("The kind."));
        all.insert("metadata".into(), json!({"type": "object"}));
        all.append(properties);
        all.insert("status".into(), status());
        *properties = all;
    }
    root
}

/// `status`, in the form that Kubernetes has for conditions.
fn status() -> Value {
    let text =
        |max: usize, what: &str| json!({"type": "string", "maxLength": max, "description": what});
    let mut kind = text(316, "What the condition is about: Programmed.");
    kind["pattern"] = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                       (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        .into();
    let mut reason = text(1024, "Why, in one word.");
    reason["pattern"] = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".into();
    reason["minLength"] = 1.into();
    json!({
        "type": "object",
        "description": "What tmm has made of the object; written by its feeder.",
        "properties": {
            "conditions": {
                "type": "array",
                "description": "Programmed: True when all of the object is carried out.",
                "maxItems": 16,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": kind,
                        "status": {
                            "type": "string",
                            "description": "Whether it is so.",
                            "enum": ["True", "False", "Unknown"],
                        },
                        "observedGeneration": {
                            "type": "integer",
                            "format": "int64",
                            "minimum": 0,
                            "description": "The generation of the object that this was said of.",
                        },
                        "lastTransitionTime": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When the status changed last.",
                        },
                        "reason": reason,
                        "message": text(32_768, "Why, in a sentence."),
                    },
                },
            },
        },
    })
}

/// The schema of one place and all below it.
fn build(kind: Kind, sketch: &Sketch, path: &str, shape: &Shape) -> Value {
    let mut schema = match shape {
        Shape::Text(form) => text(*form),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer(least, most) => {
            let format = if i32::try_from(*most).is_ok() {
                "int32"
            } else {
                "int64"
            };
            json!({"type": "integer", "format": format, "minimum": least, "maximum": most})
        }
        Shape::IntegerOrText(least, most, form) => {
            let mut either = text(*form);
            either["x-kubernetes-int-or-string"] = true.into();
            either["anyOf"] = json!([{"type": "integer"}, {"type": "string"}]);
            either["minimum"] = (*least).into();
            either["maximum"] = (*most).into();
            if let Some(map) = either.as_object_mut() {
                map.shift_remove("type");
            }
            either
        }
        Shape::OneOf(words) => json!({"type": "string", "enum": words}),
        Shape::List(least, most) => {
            let mut list = json!({
                "type": "array",
                "maxItems": most,
                "x-kubernetes-list-type": "atomic",
            });
            if *least > 0 {
                list["minItems"] = (*least).into();
            }
            let item = format!("{path}[]");
            let shape = sketch.places().into_iter().find(|place| place.path == item);
            list["items"] = shape.map_or_else(
                || json!({}),
                |place| build(kind, sketch, &item, &place.shape),
            );
            list
        }
        Shape::Object => {
            let mut properties = Map::new();
            for Place { path: child, shape } in sketch.places() {
                if let Some(name) = child_name(path, &child) {
                    properties.insert(name.to_owned(), build(kind, sketch, &child, &shape));
                }
            }
            let required = sketch.required(path);
            let mut object = json!({"type": "object", "properties": properties});
            if !required.is_empty() {
                object["required"] = required.into();
            }
            if !sketch.is_closed(path) {
                object["x-kubernetes-preserve-unknown-fields"] = true.into();
            }
            object
        }
        // Kept, so that it is refused and not dropped in silence.
        Shape::Refused => rules::refused(path),
        Shape::As(schema) => schema.clone(),
    };
    let mut rules = rules::of(kind, path, sketch);
    if let Shape::Text(form) | Shape::IntegerOrText(_, _, form) = shape {
        rules.extend(rules::of_text(*form));
    }
    if !rules.is_empty() {
        schema["x-kubernetes-validations"] = rules.into();
    }
    if let (Some(note), Some(map)) = (notes::of(kind, path), schema.as_object_mut()) {
        let mut described = Map::new();
        described.insert("description".to_owned(), note.into());
        described.append(map);
        *map = described;
    }
    schema
}

/// The name of a field, if it is one of the object at `path` itself.
fn child_name<'c>(path: &str, child: &'c str) -> Option<&'c str> {
    let name = match path {
        "" => child,
        path => child.strip_prefix(path)?.strip_prefix('.')?,
    };
    (!name.is_empty() && !name.contains(['.', '['])).then_some(name)
}

/// How a form of text looks to an API server: patterns are Go's (RE2) and ECMA's at once.
fn text(form: Text) -> Value {
    let mut schema = match form {
        Text::Any => json!({}),
        Text::Filled => json!({"minLength": 1}),
        // The format alone would take ::10.0.0.1.
        Text::Ipv4Host => json!({"maxLength": 15, "pattern": "^[0-9.]+$", "format": "ipv4"}),
        Text::Ipv6Host => json!({"maxLength": 45, "format": "ipv6"}),
        Text::Ip | Text::IpHost => json!({
            "maxLength": 45, "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
        }),
        Text::Ipv4Destination => json!({
            "maxLength": 18,
            "pattern": "^[0-9.]+(/(0|[1-9][0-9]?))?$",
            "anyOf": [{"format": "ipv4"}, {"format": "cidr"}],
        }),
        Text::Ipv6Destination => json!({
            "maxLength": 49,
            "pattern": "^[0-9a-fA-F]*:[0-9a-fA-F:.]*(/(0|[1-9][0-9]?|1[0-2][0-9]))?$",
            "anyOf": [{"format": "ipv6"}, {"format": "cidr"}],
        }),
        Text::VlanName => json!({
            "minLength": 1, "maxLength": 63, "pattern": "^[-A-Za-z0-9_.]+$",
        }),
        Text::Interface => json!({
            "maxLength": 5,
            "pattern": r"^1\.([1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$",
        }),
        Text::PortName => json!({"maxLength": 63}),
        Text::LockdownProtocol => json!({
            "maxLength": 4,
            "pattern": "^([aA][nN][yY]|[aA][lL][lL]|[tT][cC][pP]|[uU][dD][pP]|[sS][cC][tT][pP]|[iI][cC][mM][pP])$",
        }),
    };
    if let Some(map) = schema.as_object_mut() {
        map.shift_insert(0, "type".to_owned(), "string".into());
    }
    schema
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_sentence_and_every_sentence_a_field() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
            let sketch = resource::sketch(kind);
            let places = sketch.places();
            for Place { path, .. } in &places {
                let item_of_plain_list = path.ends_with("[]")
                    && !places
                        .iter()
                        .any(|place| place.path.starts_with(&format!("{path}.")));
                assert!(
                    item_of_plain_list || path.ends_with("[]") || notes::of(kind, path).is_some(),
                    "{kind} {path} has no description: write one in schema/notes.rs"
                );
            }
            for path in notes::paths(kind).into_iter().chain(rules::paths(kind)) {
                assert!(
                    path.is_empty() || places.iter().any(|place| place.path == path),
                    "{kind} has no {path}: remove it from schema/notes.rs or schema/rules.rs"
                );
            }
        }
    }

    #[test]
    fn nothing_is_asked_for_twice() {
        for kind in Kind::ALL {
            let mut paths: Vec<String> = resource::sketch(kind)
                .places()
                .into_iter()
                .map(|place| place.path)
                .collect();
            let all = paths.len();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), all, "{kind}");
        }
    }
}
