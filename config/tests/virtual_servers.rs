//! Virtual servers: members by Service and slice, VLANs by selector, and who keeps what two claim.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{created, ingress, object, resolve, service, slice, state, store, vlan};
use config::ListenScope;

/// VLANs a and b, of which b has a category.
fn two_vlans() -> Vec<serde_json::Value> {
    vec![
        vlan("a", "interfaces: ['1.1']"),
        vlan("b", "interfaces: ['1.2'], category: inside"),
        service("s"),
        slice("s", "s", "IPv4", "{addresses: [10.2.0.1]}"),
    ]
}

// case GWA-001: a missing backend is said in the status, until it comes.
#[test]
fn a_dangling_service_heals_when_it_arrives() {
    let mut all = vec![ingress("web", "web", "destinationAddress: 10.0.0.80")];
    let at = |all: &[serde_json::Value]| {
        let (config, states) = resolve(all, 0);
        (
            config.virtual_servers[0].is_live(),
            state(&states, "F5SPKIngressTCP", "web"),
        )
    };
    assert_eq!(
        at(&all),
        (
            false,
            "Pending ServiceNotFound: Service \"default/web\" not found".to_owned()
        )
    );
    all.push(service("web"));
    assert_eq!(
        at(&all),
        (
            false,
            "Pending NoReadyEndpoint: Service \"default/web\" has no ready endpoint".to_owned()
        )
    );
    all.push(slice(
        "web-1",
        "web",
        "IPv4",
        "{addresses: [10.2.0.1], conditions: {ready: false}}",
    ));
    assert!(!at(&all).0);
    all.push(slice("web-2", "web", "IPv4", "{addresses: [10.2.0.2]}"));
    assert_eq!(at(&all), (true, "Programmed".to_owned()));
}

// case GWA-001: a reference across namespaces leads nowhere.
#[test]
fn a_service_of_another_namespace_is_not_found() {
    let mut elsewhere = service("web");
    elsewhere["metadata"]["namespace"] = "other".into();
    let (_, states) = resolve(
        &[
            ingress("web", "web", "destinationAddress: 10.0.0.80"),
            elsewhere,
        ],
        0,
    );
    assert_eq!(
        state(&states, "F5SPKIngressTCP", "web"),
        "Pending ServiceNotFound: Service \"default/web\" not found"
    );
}

#[test]
fn a_missing_service_port_says_what_there_is() {
    let service = object(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: \
         [{name: http, port: 8080}, {name: dns, port: 80, protocol: UDP}]}}",
    );
    let (_, states) = resolve(
        &[
            ingress("web", "web", "destinationAddress: 10.0.0.80"),
            service,
        ],
        0,
    );
    assert_eq!(
        state(&states, "F5SPKIngressTCP", "web"),
        "Pending ServicePortNotFound: Service \"default/web\" has no TCP port 80 \
         (it has 8080/TCP \"http\", 80/UDP \"dns\")"
    );
}

#[test]
fn slices_are_merged_sorted_and_freed_of_duplicates() {
    let (config, _) = resolve(
        &[
            ingress("web", "web", "destinationAddress: 10.0.0.80"),
            service("web"),
            slice(
                "1",
                "web",
                "IPv4",
                "{addresses: [10.2.0.9]}, {addresses: [10.2.0.10], conditions: {ready: false}}",
            ),
            slice(
                "2",
                "web",
                "IPv4",
                "{addresses: [10.2.0.10]}, {addresses: [10.2.0.2], conditions: {ready: false, serving: true, terminating: true}}",
            ),
            slice(
                "3",
                "web",
                "IPv4",
                "{addresses: [10.2.0.3], conditions: {ready: false, serving: false, terminating: true}}",
            ),
            slice("4", "web", "IPv6", "{addresses: ['fd00::1']}"),
            slice("5", "other", "IPv4", "{addresses: [10.2.0.99]}"),
        ],
        0,
    );
    let members: Vec<(String, bool, bool)> = config.virtual_servers[0]
        .pool
        .members
        .iter()
        .map(|m| (format!("{}:{}", m.addr, m.port), m.ready, m.draining))
        .collect();
    assert_eq!(
        members,
        [
            ("10.2.0.2:8080".to_owned(), false, true),
            ("10.2.0.3:8080".to_owned(), false, false),
            ("10.2.0.9:8080".to_owned(), true, false),
            ("10.2.0.10:8080".to_owned(), true, false),
        ]
    );
}

#[test]
fn a_dual_stack_object_waits_for_the_family_it_lacks() {
    let (config, states) = resolve(
        &[
            ingress(
                "web",
                "web",
                "destinationAddress: 10.0.0.80, ipv6destinationAddress: 'fd00::80'",
            ),
            service("web"),
            slice("1", "web", "IPv4", "{addresses: [10.2.0.9]}"),
        ],
        0,
    );
    let live: Vec<bool> = config
        .virtual_servers
        .iter()
        .map(config::VirtualServer::is_live)
        .collect();
    assert_eq!(live, [true, false]);
    assert_eq!(
        state(&states, "F5SPKIngressTCP", "web"),
        "Pending NoReadyEndpoint: Service \"default/web\" has no ready IPv6 endpoint"
    );
}

#[test]
fn vlans_are_selected_by_name_category_and_exclusion() {
    let cases: [(&str, Option<&[&str]>, &str); 8] = [
        ("", None, "Programmed"),
        (", vlans: {}", None, "Programmed"),
        (
            ", vlans: {vlanList: [b, a, b]}",
            Some(&["a", "b"]),
            "Programmed",
        ),
        (", vlans: {category: inside}", Some(&["b"]), "Programmed"),
        (
            ", vlans: {vlanList: [a], category: inside}",
            Some(&["a", "b"]),
            "Programmed",
        ),
        (
            ", vlans: {vlanList: [a], disableListedVlans: true}",
            Some(&["b"]),
            "Programmed",
        ),
        (
            ", vlans: {vlanList: [a, c]}",
            Some(&["a"]),
            "Pending VlanNotFound: VLAN \"c\" named in spec.vlans.vlanList not found",
        ),
        (
            ", vlans: {category: x}",
            Some(&[]),
            "Pending VlanNotFound: no VLAN of the category \"x\" in spec.vlans.category found",
        ),
    ];
    for (vlans, listens, expected) in cases {
        let mut all = two_vlans();
        all.push(ingress(
            "web",
            "s",
            &format!("destinationAddress: 10.0.0.80{vlans}"),
        ));
        let (config, states) = resolve(&all, 0);
        let scope = match listens {
            None => ListenScope::AllVlans,
            Some(names) => ListenScope::Vlans(names.iter().map(|n| (*n).to_owned()).collect()),
        };
        assert_eq!(config.virtual_servers[0].listen, scope, "{vlans}");
        assert_eq!(
            state(&states, "F5SPKIngressTCP", "web"),
            expected,
            "{vlans}"
        );
    }
}

// case GWA-001: of two that listen to the same, the older one does, and the other is told.
#[test]
fn the_older_of_two_virtual_servers_keeps_its_destination() {
    let cases = [
        ("", "", Some("TCP 10.0.0.80/32 port 80 is taken by")),
        (
            "vlans: {vlanList: [a]}",
            "",
            Some("TCP 10.0.0.80/32 port 80 is taken by"),
        ),
        (
            "",
            "vlans: {vlanList: [b]}",
            Some("TCP 10.0.0.80/32 port 80 on VLAN \"b\" is taken by"),
        ),
        (
            "vlans: {vlanList: [a, b]}",
            "vlans: {category: inside}",
            Some("TCP 10.0.0.80/32 port 80 on VLAN \"b\" is taken by"),
        ),
        // The hairpin: one address, one resource per VLAN.
        ("vlans: {vlanList: [a]}", "vlans: {vlanList: [b]}", None),
        ("vlans: {vlanList: [nowhere]}", "", None),
    ];
    for (old, new, conflict) in cases {
        let mut all = two_vlans();
        let spec = |vlans| format!("destinationAddress: 10.0.0.80, {vlans}");
        all.push(ingress("anew", "s", &spec(new)));
        all.push(created(
            ingress("old", "s", &spec(old)),
            "2026-01-01T00:00:00Z",
        ));
        let (config, states) = resolve(&all, 0);
        let said = state(&states, "F5SPKIngressTCP", "anew");
        if let Some(text) = conflict {
            assert_eq!(
                said,
                format!("Error Conflict: {text} F5SPKIngressTCP default/old")
            );
            assert_eq!(config.virtual_servers.len(), 1);
            assert_eq!(config.virtual_servers[0].name, "default/old");
        } else {
            assert_eq!(said, "Programmed", "{old} {new}");
            assert_eq!(config.virtual_servers.len(), 2);
        }
    }
}

#[test]
fn many_can_share_a_destination_while_no_two_share_a_vlan() {
    let mut all: Vec<_> = (0..6)
        .map(|i| {
            vlan(
                &format!("v{i}"),
                &format!("interfaces: ['1.1'], tag: {}", i + 1),
            )
        })
        .collect();
    let lists = ["v0", "v1, v2", "v3", "v3, v4", "v5, v2", "v4"];
    for (i, list) in lists.iter().enumerate() {
        let spec = format!("destinationAddress: 10.0.0.80, vlans: {{vlanList: [{list}]}}");
        let at = format!("2026-01-0{}T00:00:00Z", i + 1);
        all.push(created(ingress(&format!("w{i}"), "s", &spec), &at));
    }
    let (config, states) = resolve(&all, 0);
    let kept: Vec<&str> = config
        .virtual_servers
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(
        kept,
        ["default/w0", "default/w1", "default/w2", "default/w5"]
    );
    for (loser, text) in [
        ("w3", "\"v3\" is taken by F5SPKIngressTCP default/w2"),
        ("w4", "\"v2\" is taken by F5SPKIngressTCP default/w1"),
    ] {
        let said = state(&states, "F5SPKIngressTCP", loser);
        assert!(said.contains(text), "{said}");
    }
}

/// Many virtual servers that listen on nearly all of many VLANs must not cost their product.
#[test]
fn selectors_that_exclude_a_vlan_are_resolved_once() {
    let mut all: Vec<_> = (1..=2000)
        .map(|i| vlan(&format!("v{i}"), &format!("interfaces: ['1.1'], tag: {i}")))
        .collect();
    for i in 0..3000 {
        let spec = format!(
            "destinationAddress: 10.0.{}.{}, vlans: {{vlanList: [v1], disableListedVlans: true}}",
            i / 250,
            i % 250 + 1
        );
        all.push(ingress(&format!("w{i}"), "s", &spec));
    }
    let store = store(&all);
    let start = std::time::Instant::now();
    let (config, _) = config::resolve(&store, 0);
    assert_eq!(config.virtual_servers.len(), 3000);
    let ListenScope::Vlans(first) = &config.virtual_servers[0].listen else {
        panic!()
    };
    let ListenScope::Vlans(last) = &config.virtual_servers[2999].listen else {
        panic!()
    };
    assert_eq!(first.len(), 1999);
    assert!(std::sync::Arc::ptr_eq(first, last));
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn ports_and_protocols_keep_virtual_servers_apart() {
    let mut other_port = ingress("b", "s", "destinationAddress: 10.0.0.80");
    other_port["spec"]["destinationPort"] = 81.into();
    let mut udp = ingress("c", "s", "destinationAddress: 10.0.0.80");
    udp["kind"] = "F5SPKIngressUDP".into();
    udp["apiVersion"] = "ingressudp.k8s.f5net.com/v1".into();
    let all = [
        ingress("a", "s", "destinationAddress: 10.0.0.80"),
        ingress("d", "s", "destinationAddress: 10.0.0.0/24"),
        other_port,
        udp,
    ];
    assert_eq!(resolve(&all, 0).0.virtual_servers.len(), 4);
}

#[test]
fn reasons_stay_bounded_and_a_conflict_is_never_lost_among_them() {
    let names: Vec<String> = (0..100).map(|i| format!("v{i}")).collect();
    let spec = format!(
        "destinationAddress: 10.0.0.80, vlans: {{disableListedVlans: true, vlanList: [{}]}}",
        names.join(", ")
    );
    let mut all = two_vlans();
    all.push(created(
        ingress("old", "s", "destinationAddress: 10.0.0.80"),
        "2026-01-01T00:00:00Z",
    ));
    all.push(ingress("web", "s", &spec));
    let (_, states) = resolve(&all, 0);
    let said = state(&states, "F5SPKIngressTCP", "web");
    assert!(
        said.starts_with("Error Conflict: TCP 10.0.0.80/32 port 80 on VLAN \"a\" is taken"),
        "{said}"
    );
    assert!(said.ends_with("(and 84 more)"), "{said}");
}

/// Only meaningful with optimisation; the bound is generous so that a busy machine passes.
// case DPV-001: a thousand services, ten times
#[test]
fn ten_thousand_virtual_servers_resolve_quickly() {
    let mut all = Vec::new();
    for i in 0..10_000 {
        let name = format!("s{i}");
        all.push(ingress(
            &name,
            &name,
            &format!("destinationAddress: 10.{}.{}.1", i / 250, i % 250),
        ));
        all.push(service(&name));
        let ends: Vec<String> = (1..4)
            .map(|e| format!("{{addresses: [172.{}.{}.{e}]}}", 16 + i / 250, i % 250))
            .collect();
        all.push(slice(&name, &name, "IPv4", &ends.join(", ")));
    }
    let store = store(&all);
    let start = std::time::Instant::now();
    let (config, states) = config::resolve(&store, 0);
    let took = start.elapsed();
    assert_eq!(
        (config.virtual_servers.len(), states.len()),
        (10_000, 30_000)
    );
    assert!(
        config
            .virtual_servers
            .iter()
            .all(|server| server.pool.members.len() == 3)
    );
    println!("resolved in {took:?}");
    let bound = if cfg!(debug_assertions) { 3000 } else { 300 };
    assert!(took.as_millis() < bound, "{took:?}");
}
