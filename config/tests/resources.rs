//! Every kind: what is read of a good object, and every error of a bad one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write as _;

use common::{SITE, object, objects};
use config::resource::{self, Resource};
use serde_json::{Value, json};

fn errors_of(value: &Value) -> String {
    match resource::parse(value) {
        Ok(_) => "accepted\n".to_owned(),
        Err(errors) => errors.iter().fold(String::new(), |mut all, error| {
            writeln!(all, "{error}").unwrap();
            all
        }),
    }
}

/// The errors of several objects, each with its title.
fn report(cases: &[(&str, &str)], wrap: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    for (title, spec) in cases {
        let errors = errors_of(&object(&wrap(spec)));
        writeln!(out, "## {title}\n{errors}").unwrap();
    }
    out
}

#[test]
fn every_object_of_a_whole_site_is_accepted() {
    for object in objects(SITE) {
        assert_eq!(errors_of(&object), "accepted\n", "{object:#}");
    }
}

#[test]
fn what_is_read_of_each_kind_is_what_it_says() {
    let read: Vec<Resource> = objects(SITE)
        .iter()
        .map(|object| resource::parse(object).unwrap().resource)
        .collect();
    insta::assert_debug_snapshot!(read);
}

#[test]
fn errors_of_the_envelope() {
    let cases = [
        ("not an object", json!([1, 2])),
        ("nothing", json!({})),
        (
            "unknown kind",
            json!({"kind": "F5SPKVlam", "apiVersion": "k8s.f5net.com/v1", "metadata": {"name": "x"}}),
        ),
        (
            "kind of another project",
            json!({"kind": "Pod", "apiVersion": "v1"}),
        ),
        (
            "kind not supported yet",
            json!({"kind": "F5SPKDnscache", "apiVersion": "k8s.f5net.com/v1", "metadata": {"name": "x"}}),
        ),
        (
            "kind of the wrong type",
            json!({"kind": 5, "apiVersion": "v1"}),
        ),
        (
            "wrong apiVersion",
            json!({"kind": "F5SPKIngressTCP", "apiVersion": "k8s.f5net.com/v1",
            "metadata": {"name": "x"}, "service": {"name": "s", "port": 1},
            "spec": {"destinationAddress": "10.0.0.1", "destinationPort": 1}}),
        ),
        (
            "no metadata and no spec",
            json!({"kind": "F5SPKVlan", "apiVersion": "k8s.f5net.com/v1"}),
        ),
        (
            "bad metadata",
            json!({"kind": "Service", "apiVersion": "v1", "spec": {}, "metadata": {
            "name": "Web_1", "namespace": "a/b", "generation": "3", "uid": 1,
            "creationTimestamp": "yesterday", "labels": {"a": 1}}}),
        ),
        (
            "empty name",
            json!({"kind": "Service", "apiVersion": "v1", "spec": {}, "metadata": {"name": ""}}),
        ),
        (
            "long name",
            json!({"kind": "Service", "apiVersion": "v1", "spec": {}, "metadata": {"name": "x".repeat(254)}}),
        ),
        (
            "status and unknown metadata are tolerated",
            json!({"kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "x", "managedFields": [], "finalizers": [], "creationTimestamp": null},
            "spec": {}, "status": {"loadBalancer": {}}}),
        ),
        (
            "unknown field beside spec",
            json!({"kind": "F5SPKStaticRoute", "apiVersion": "k8s.f5net.com/v1",
            "metadata": {"name": "x"}, "speck": {}, "monitors": {}}),
        ),
    ];
    let mut out = String::new();
    for (title, value) in &cases {
        writeln!(out, "## {title}\n{}", errors_of(value)).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn errors_of_a_vlan() {
    let cases = [
        ("minimal", "name: a, interfaces: ['1.1']"),
        ("empty spec", ""),
        (
            "tag out of range",
            "name: a, interfaces: ['1.1'], tag: 5000",
        ),
        ("tag zero", "name: a, interfaces: ['1.1'], tag: 0"),
        ("tag negative", "name: a, interfaces: ['1.1'], tag: -1"),
        ("tag in quotes", "name: a, interfaces: ['1.1'], tag: '100'"),
        (
            "tag with a fraction",
            "name: a, interfaces: ['1.1'], tag: 1.5",
        ),
        (
            "outer tag alone",
            "name: a, interfaces: ['1.1'], outerTag: 5",
        ),
        (
            "outer tag out of range",
            "name: a, interfaces: ['1.1'], tag: 1, outerTag: 4095",
        ),
        (
            "slips",
            "name: a, interfaces: ['1.1'], tagg: 5, selfip_v4: [], colour: red",
        ),
        (
            "bad names",
            "name: 'a b', interfaces: ['1.1'], category: ''",
        ),
        (
            "interfaces",
            "name: a, interfaces: ['1.0', '1.1', '1.1', '2.1', '1.01', eth0, 5, '1.']",
        ),
        ("no interfaces", "name: a, interfaces: []"),
        ("interfaces not a list", "name: a, interfaces: '1.1'"),
        ("interface without quotes", "name: a, interfaces: [1.1]"),
        (
            "addresses",
            "name: a, interfaces: ['1.1'], prefixlen_v4: 24, selfip_v4s: ['10.0.0.300', '10.0.0.1', '10.0.0.1', '10.0.0.2/24', '0.0.0.0', '224.0.0.1', '255.255.255.255', '::1', '10.0.0.0', '10.0.0.255', 7]",
        ),
        (
            "addresses without prefix length",
            "name: a, interfaces: ['1.1'], selfip_v4s: ['10.0.0.1'], selfip_v6s: ['2001:db8::1']",
        ),
        (
            "prefix length without addresses",
            "name: a, interfaces: ['1.1'], prefixlen_v4: 24, prefixlen_v6: 64",
        ),
        (
            "prefix lengths too long",
            "name: a, interfaces: ['1.1'], selfip_v4s: ['10.0.0.1'], selfip_v6s: ['2001:db8::1'], prefixlen_v4: 33, prefixlen_v6: 129",
        ),
        (
            "a /31 has no broadcast address",
            "name: a, interfaces: ['1.1'], selfip_v4s: ['10.0.0.0', '10.0.0.1'], prefixlen_v4: 31",
        ),
        ("mtu", "name: a, interfaces: ['1.1'], mtu: 1499"),
        (
            "words",
            "name: a, interfaces: ['1.1'], trunk_hash: MAC, cmp_hash: src, pod_hash: 1, auto_lasthop: 'on'",
        ),
        (
            "booleans",
            "name: a, interfaces: ['1.1'], bonded: 1, internal: 'true'",
        ),
        (
            "allowed services",
            "name: a, interfaces: ['1.1'], allowed_services: [{protocol: TCP, port: 22}, {protocol: any}, {port: 1}, {protocol: ospf, port: 70000}, {protocol: tcp, prot: 1}, tcp]",
        ),
        (
            "nulls count as absent",
            "name: a, interfaces: ['1.1'], tag: null, mtu: null",
        ),
    ];
    insta::assert_snapshot!(report(&cases, |spec| format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKVlan, metadata: {{name: a}}, spec: {{{spec}}}}}"
    )));
}

#[test]
fn errors_of_a_static_route() {
    let cases = [
        (
            "default route",
            "destination: 0.0.0.0, prefixLen: 0, type: gateway, gateway: 10.0.0.1",
        ),
        ("empty spec", ""),
        (
            "families differ",
            "destination: 10.0.0.0, prefixLen: 8, type: gateway, gateway: 'fd00::1'",
        ),
        (
            "prefix in the address",
            "destination: 10.0.0.0/8, prefixLen: 8, type: gateway, gateway: 10.0.0.1",
        ),
        (
            "host bits",
            "destination: 10.0.0.1, prefixLen: 8, type: gateway, gateway: 10.0.0.1",
        ),
        (
            "too long",
            "destination: 10.0.0.0, prefixLen: 33, type: gateway, gateway: 10.0.0.1",
        ),
        (
            "long enough for IPv6",
            "destination: 'fd00::', prefixLen: 33, type: gateway, gateway: 'fd00::1'",
        ),
        (
            "other type",
            "destination: 10.0.0.0, prefixLen: 8, type: blackhole, gateway: 10.0.0.1",
        ),
        (
            "gateway no host",
            "destination: 10.0.0.0, prefixLen: 8, type: gateway, gateway: 0.0.0.0",
        ),
        (
            "link-local without interface",
            "destination: '::', prefixLen: 0, type: gateway, gateway: 'fe80::1'",
        ),
        (
            "link-local with interface",
            "destination: '::', prefixLen: 0, type: gateway, gateway: 'fe80::1', interface: external",
        ),
        (
            "slip",
            "destination: 10.0.0.0, prefixlen: 8, type: gateway, gateway: 10.0.0.1",
        ),
    ];
    insta::assert_snapshot!(report(&cases, |spec| format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKStaticRoute, metadata: {{name: a}}, spec: {{{spec}}}}}"
    )));
}

#[test]
fn errors_of_an_ingress() {
    let good =
        "service: {name: s, port: 80}, spec: {destinationAddress: 10.0.0.1, destinationPort: 80";
    let with = |rest: &str| format!("{good}, {rest}}}");
    let beside = |rest: &str| format!("{good}}}, {rest}");
    let to = |rest: &str| {
        format!("service: {{name: s, port: 80}}, spec: {{destinationPort: 80, {rest}}}")
    };
    let cases = [
        ("minimal", beside("")),
        ("nothing", String::new()),
        ("no destination", to("")),
        ("destinations of the wrong field", to("destinationAddress: '::1', ipv6destinationAddress: 10.0.0.1")),
        ("destinations malformed", to("destinationAddress: 10.0.0, ipv6destinationAddress: 'fd00::/129'")),
        ("destination with host bits", to("destinationAddress: 10.0.0.1/24")),
        ("wildcards", to("destinationAddress: 0.0.0.0/0, ipv6destinationAddress: '::/0'")),
        ("wildcard without its length", to("destinationAddress: 0.0.0.0")),
        ("multicast", to("destinationAddress: 224.0.0.5")),
        ("no port", "service: {name: s, port: 80}, spec: {destinationAddress: 10.0.0.1}".to_owned()),
        ("port too large", "service: {name: s, port: 65536}, spec: {destinationAddress: 10.0.0.1, destinationPort: 65536}".to_owned()),
        ("service port by name", "service: {name: s, port: http}, spec: {destinationAddress: 10.0.0.1, destinationPort: 0}".to_owned()),
        ("service port in quotes", "service: {name: s, port: '80'}, spec: {destinationAddress: 10.0.0.1, destinationPort: '80'}".to_owned()),
        ("service incomplete", "service: {nam: s}, spec: {destinationAddress: 10.0.0.1, destinationPort: 80}".to_owned()),
        ("words", with("loadBalancingMethod: RANDOM, snat: AUTOMAP, serviceDownAction: reject")),
        ("SNAT pool", with("snat: SRC_TRANS_SNATPOOL, snatpool: p")),
        ("persistence", with("persistence: {type: SOURCE_ADDR}")),
        ("idle timeout", with("idleTimeout: 0")),
        ("slips", with("destinationport: 80, idleTimeOut: 5, vlans: {vlanlist: [a]}")),
        ("vlans", with("vlans: {vlanList: ['', 5], disableListedVlans: 'true'}")),
        ("nothing to disable", with("vlans: {disableListedVlans: true}")),
        ("monitor split over items", beside("monitors: {tcp: [{interval: 3}, {timeout: 10}]}")),
        ("monitor defaults", beside("monitors: {tcp: [{interval: 3}], icmp: [{timeout: 9}]}")),
        ("monitor default timeout too short", beside("monitors: {tcp: [{interval: 30}]}")),
        ("monitor fields", beside("monitors: {tcp: [{interval: 10, timeout: 9, sendString: x}], http: [{interval: 0, timeout: 5, port: 0}], sip: []}")),
        ("spec beside spec", beside("destinationPort: 80")),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(title, text)| (*title, text.as_str()))
        .collect();
    insta::assert_snapshot!(report(&cases, |text| format!(
        "{{apiVersion: ingresstcp.k8s.f5net.com/v1, kind: F5SPKIngressTCP, metadata: {{name: a}}, {text}}}"
    )));
}

#[test]
fn errors_of_services_and_endpoint_slices() {
    let cases = [
        (
            "external name",
            "kind: Service, apiVersion: v1, spec: {type: ExternalName, externalName: x.org}",
        ),
        ("service without spec", "kind: Service, apiVersion: v1"),
        (
            "service ports",
            "kind: Service, apiVersion: v1, spec: {ports: [{port: 0}, {port: 80}, {port: 80}, {port: 80, protocol: UDP}, {port: 81, protocol: tcp}, {name: x}]}",
        ),
        (
            "slice without type",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, endpoints: []",
        ),
        (
            "slice of names",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, addressType: FQDN, endpoints: [{addresses: [a.org]}]",
        ),
        (
            "slice of nothing",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, addressType: IPv4, endpoints: null, ports: null",
        ),
        (
            "slice families",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, addressType: IPv4, endpoints: [{addresses: ['fd00::1']}, {addresses: []}, {}, {addresses: [10.0.0.1], conditions: {ready: 'yes'}}]",
        ),
        (
            "slice ports",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, addressType: IPv4, endpoints: [], ports: [{port: null}, {port: 0}, {port: 1, protocol: ICMP}]",
        ),
        (
            "the old version of slices",
            "kind: EndpointSlice, apiVersion: discovery.k8s.io/v1beta1, addressType: IPv4",
        ),
    ];
    insta::assert_snapshot!(report(&cases, |text| format!(
        "{{metadata: {{name: a}}, {text}}}"
    )));
}

#[test]
fn every_kind_of_the_family_is_known_and_refused_by_name() {
    for kind in config::UNSUPPORTED {
        let value = json!({"kind": kind, "apiVersion": "k8s.f5net.com/v1", "metadata": {"name": "x"}, "spec": {}});
        assert_eq!(
            errors_of(&value),
            format!("kind: kind {kind} is not supported yet\n")
        );
    }
}

#[test]
fn an_object_cannot_cost_more_than_its_bounds() {
    let many: Vec<String> = (0..5000)
        .map(|i| format!("10.0.{}.{}", i / 250, 1 + i % 250))
        .collect();
    let value = json!({"kind": "F5SPKVlan", "apiVersion": "k8s.f5net.com/v1", "metadata": {"name": "x"},
        "spec": {"name": "x", "interfaces": ["1.1"], "prefixlen_v4": 8, "selfip_v4s": many}});
    assert_eq!(
        errors_of(&value),
        "spec.selfip_v4s: 5000 items are more than 4096\n"
    );

    let flood: serde_json::Map<String, Value> = (0..100_000)
        .map(|i| (format!("field{i}"), Value::Null))
        .collect();
    let value = json!({"kind": "F5SPKVlan", "apiVersion": "k8s.f5net.com/v1", "metadata": {"name": "x"},
        "spec": flood});
    let errors = resource::parse(&value).unwrap_err();
    assert_eq!(errors.len(), 51);
    assert_eq!(errors.last().unwrap().message, "and 99952 more errors");
}

#[test]
fn errors_of_a_snat_pool() {
    let cases = [
        (
            "by replica",
            "name: p, addressList: [[10.0.0.1, 'fd00::1'], [10.0.0.2], []]",
        ),
        ("for all", "name: p, addressList: [10.0.0.1, 'fd00::1']"),
        ("nothing", ""),
        ("no address", "name: '', addressList: []"),
        ("not a list", "name: p, addressList: 10.0.0.1"),
        ("mixed", "name: p, addressList: [[10.0.0.1], 10.0.0.2]"),
        (
            "not a host",
            "name: p, addressList: [[10.0.0.1], [224.0.0.1]]",
        ),
        ("a subnet", "name: p, addressList: [10.0.0.0/24]"),
        ("a number", "name: p, addressList: [[5]]"),
        ("twice", "name: p, addressList: [[10.0.0.1], [10.0.0.1]]"),
        (
            "shared",
            "name: p, addressList: [10.0.0.1], sharedSnatAddressEnabled: true",
        ),
        ("slip", "name: p, addresslist: [10.0.0.1]"),
    ];
    insta::assert_snapshot!(report(&cases, |text| format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKSnatpool, metadata: {{name: a}}, spec: {{{text}}}}}"
    )));
}

#[test]
fn errors_of_an_egress() {
    let cases = [
        ("nothing said", ""),
        ("pool", "egressSnatpool: p"),
        ("pool not named", "snatType: SRC_TRANS_SNATPOOL"),
        (
            "pool beside automap",
            "snatType: SRC_TRANS_AUTOMAP, egressSnatpool: p",
        ),
        (
            "mapping of nothing",
            "snatType: SRC_TRANS_NONE, natMapping: ENDPOINT_INDEPENDENT",
        ),
        (
            "filtering by itself",
            "natFiltering: ENDPOINT_INDEPENDENT, maxMappingsPerClient: 5",
        ),
        (
            "words",
            "natMapping: FULL_CONE, natFiltering: NONE, snatType: AUTOMAP",
        ),
        (
            "ranges",
            "natMapping: ENDPOINT_INDEPENDENT, maxMappingsPerClient: 0, udpIdleTimeout: 0",
        ),
        (
            "off",
            "dnsNat46Enabled: false, nat64Enabled: false, dnsCacheName: '', firewallEnforcedPolicy: '', dnsNat46PoolIps: []",
        ),
        (
            "on",
            "dnsNat46Enabled: true, nat64Enabled: true, dnsCacheName: x, firewallEnforcedPolicy: y, dnsNat46PoolIps: [10.0.0.1]",
        ),
    ];
    insta::assert_snapshot!(report(&cases, |text| format!(
        "{{apiVersion: k8s.f5net.com/v2, kind: F5SPKEgress, metadata: {{name: a}}, spec: {{{text}}}}}"
    )));
}
