//! Helpers shared by the tests of this crate.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub mod feeder;

use config::document::{self, Document};
use config::{Config, Limits, ObjectState, Owner, Store};
use serde_json::Value;

pub const SITE: &str = include_str!("../fixtures/site.yaml");

/// The objects of a YAML text.
pub fn objects(yaml: &str) -> Vec<Value> {
    let documents = document::read_text("test", yaml);
    documents
        .into_iter()
        .map(|Document { content, .. }| content.unwrap())
        .collect()
}

/// One object of a YAML text.
pub fn object(yaml: &str) -> Value {
    let mut all = objects(yaml);
    assert_eq!(all.len(), 1, "{yaml}");
    all.remove(0)
}

/// A store of objects that are all good.
pub fn store(objects: &[Value]) -> Store {
    let mut store = Store::new(Limits::default());
    for object in objects {
        if let Err(errors) = store.apply(object, &Owner::fixed("test")) {
            panic!("{errors:?}\n{object:#}");
        }
    }
    store
}

pub fn resolve(objects: &[Value], replica: usize) -> (Config, Vec<ObjectState>) {
    config::resolve(&store(objects), replica)
}

/// The state of the one object of that kind and name, as one line.
pub fn state(states: &[ObjectState], kind: &str, name: &str) -> String {
    let mut found = states
        .iter()
        .filter(|state| state.key.kind.name() == kind && state.key.name == name);
    let state = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two {kind} {name}");
    match state.message().as_str() {
        "" => format!("{:?}", state.state),
        message => format!("{:?} {}: {message}", state.state, state.reason()),
    }
}

pub fn vlan(name: &str, spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKVlan, metadata: {{name: '{name}'}}, \
         spec: {{name: '{name}', {spec}}}}}"
    ))
}

pub fn route(name: &str, spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKStaticRoute, metadata: {{name: '{name}'}}, \
         spec: {{type: gateway, {spec}}}}}"
    ))
}

/// A TCP virtual server on port 80 of the Service of that name.
pub fn ingress(name: &str, service: &str, spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: ingresstcp.k8s.f5net.com/v1, kind: F5SPKIngressTCP, \
         metadata: {{name: '{name}'}}, service: {{name: {service}, port: 80}}, \
         spec: {{destinationPort: 80, {spec}}}}}"
    ))
}

pub fn service(name: &str) -> Value {
    object(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: '{name}'}}, \
         spec: {{ports: [{{name: http, port: 80}}]}}}}"
    ))
}

pub fn slice(name: &str, service: &str, family: &str, endpoints: &str) -> Value {
    object(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: '{name}', \
         labels: {{kubernetes.io/service-name: {service}}}}}, addressType: {family}, \
         ports: [{{name: http, port: 8080}}], endpoints: [{endpoints}]}}"
    ))
}

/// The same object with a creation time.
pub fn created(mut object: Value, time: &str) -> Value {
    object["metadata"]["creationTimestamp"] = time.into();
    object
}
