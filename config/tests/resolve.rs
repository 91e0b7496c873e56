//! From a set of objects to one configuration and a state per object.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::{SITE, created, object, objects, resolve, route, state, store, vlan};
use config::{Encap, Owner, State};
use serde_json::Value;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_whole_site_resolves_into_one_configuration() {
    let (config, states) = resolve(&objects(SITE), 0);
    assert!(
        states.iter().all(|s| s.state == State::Programmed),
        "{states:#?}"
    );
    insta::assert_json_snapshot!(config);
}

#[test]
fn each_replica_owns_its_position_of_the_lists() {
    let site = objects(SITE);
    for (replica, v4, v6) in [
        (0, "10.1.0.1", "2001:db8:1::1"),
        (1, "10.1.0.2", "2001:db8:1::2"),
    ] {
        let (config, _) = resolve(&site, replica);
        let own: Vec<IpAddr> = config
            .vlan("external")
            .unwrap()
            .self_ips(replica)
            .map(|own| own.addr)
            .collect();
        assert_eq!(own, [ip(v4), ip(v6)]);
    }
}

#[test]
fn a_replica_beyond_the_list_stays_standby_and_says_so() {
    let objects = [vlan(
        "a",
        "interfaces: ['1.1'], selfip_v4s: [10.0.0.1, 10.0.0.2], prefixlen_v4: 24",
    )];
    let (config, states) = resolve(&objects, 2);
    assert_eq!(config.vlans[0].self_ips(2).count(), 0);
    assert_eq!(
        state(&states, "F5SPKVlan", "a"),
        "Pending NoSelfIp: no IPv4 self IP for replica 2: spec.selfip_v4s lists 2, for replicas 0-1"
    );
}

#[test]
fn a_vlan_without_addresses_is_no_standby() {
    let (config, states) = resolve(&[vlan("a", "interfaces: ['1.1']")], 7);
    assert_eq!(config.vlans[0].encap, Encap::Untagged);
    assert_eq!(state(&states, "F5SPKVlan", "a"), "Programmed");
}

#[test]
fn the_older_vlan_keeps_what_two_claim() {
    let cases = [
        (
            "tag: 5, interfaces: ['1.1', '1.2']",
            "tag: 5, interfaces: ['1.2', '1.3']",
            "tag 5 on interface 1.2 is taken by F5SPKVlan default/z",
        ),
        (
            "interfaces: ['1.1']",
            "interfaces: ['1.1']",
            "untagged on interface 1.1 is taken by F5SPKVlan default/z",
        ),
        (
            "interfaces: ['1.1'], selfip_v6s: ['fd00::1'], prefixlen_v6: 64",
            "interfaces: ['1.2'], selfip_v6s: ['fd00::2', 'fd00::1'], prefixlen_v6: 64",
            "self IP fd00::1 is taken by F5SPKVlan default/z",
        ),
    ];
    for (old, new, message) in cases {
        let old = created(vlan("z", old), "2026-01-01T00:00:00Z");
        let new = created(vlan("a", new), "2026-01-02T00:00:00Z");
        let (config, states) = resolve(&[new, old], 0);
        assert_eq!(config.vlans.len(), 1);
        assert_eq!(config.vlans[0].name, "z");
        assert_eq!(state(&states, "F5SPKVlan", "z"), "Programmed");
        assert_eq!(
            state(&states, "F5SPKVlan", "a"),
            format!("Error Conflict: {message}")
        );
    }
}

#[test]
fn tags_that_differ_share_an_interface() {
    let (config, _) = resolve(
        &[
            vlan("a", "interfaces: ['1.1']"),
            vlan("b", "interfaces: ['1.1'], tag: 5"),
            vlan("c", "interfaces: ['1.1'], tag: 5, outerTag: 6"),
            vlan("d", "interfaces: ['1.1'], tag: 6, outerTag: 5"),
            vlan("e", "interfaces: ['1.2'], tag: 5"),
        ],
        0,
    );
    assert_eq!(config.vlans.len(), 5);
}

#[test]
fn two_vlans_of_one_name_are_a_conflict_even_across_namespaces() {
    let mut other = vlan("b", "interfaces: ['1.2']");
    other["spec"]["name"] = "a".into();
    other["metadata"]["namespace"] = "other".into();
    let (_, states) = resolve(&[vlan("a", "interfaces: ['1.1']"), other], 0);
    assert_eq!(
        state(&states, "F5SPKVlan", "b"),
        "Error Conflict: VLAN name \"a\" is taken by F5SPKVlan default/a"
    );
}

#[test]
fn routes_leave_by_the_named_vlan_or_by_the_gateways_subnet() {
    let vlans = [
        vlan(
            "wide",
            "interfaces: ['1.1'], selfip_v4s: [10.0.0.1], prefixlen_v4: 8",
        ),
        vlan(
            "narrow",
            "interfaces: ['1.2'], selfip_v4s: [10.9.0.1], prefixlen_v4: 24",
        ),
    ];
    let cases = [
        ("gateway: 10.1.1.1", Some("wide"), "Programmed"),
        ("gateway: 10.9.0.2", Some("narrow"), "Programmed"),
        (
            "gateway: 10.9.0.2, interface: wide",
            Some("wide"),
            "Programmed",
        ),
        (
            "gateway: 192.0.2.1, interface: wide",
            None,
            "Pending GatewayUnreachable: gateway 192.0.2.1 is on no subnet of VLAN \"wide\"",
        ),
        (
            "gateway: 192.0.2.1",
            None,
            "Pending GatewayUnreachable: gateway 192.0.2.1 is on no VLAN's subnet",
        ),
        (
            "gateway: 10.1.1.1, interface: none",
            None,
            "Pending VlanNotFound: VLAN \"none\" named in spec.interface not found",
        ),
        (
            "gateway: 10.9.0.1",
            None,
            "Error Conflict: gateway 10.9.0.1 is a self IP of VLAN \"narrow\"",
        ),
    ];
    for (spec, leaves_by, expected) in cases {
        let mut all = vlans.to_vec();
        all.push(route(
            "r",
            &format!("destination: 0.0.0.0, prefixLen: 0, {spec}"),
        ));
        let (config, states) = resolve(&all, 0);
        assert_eq!(
            config.routes.first().map(|r| r.vlan.as_str()),
            leaves_by,
            "{spec}"
        );
        assert_eq!(state(&states, "F5SPKStaticRoute", "r"), expected, "{spec}");
    }
}

#[test]
fn the_older_of_two_routes_keeps_its_destination() {
    let net = vlan(
        "a",
        "interfaces: ['1.1'], selfip_v4s: [10.0.0.1], prefixlen_v4: 24",
    );
    let to = |name, gateway, len| {
        route(
            name,
            &format!("destination: 10.8.0.0, prefixLen: {len}, gateway: {gateway}"),
        )
    };
    let (config, states) = resolve(
        &[
            net,
            to("b", "10.0.0.3", 16),
            created(to("z", "10.0.0.2", 16), "2026-01-01T00:00:00Z"),
            to("longer", "10.0.0.4", 24),
        ],
        0,
    );
    let gateways: Vec<IpAddr> = config.routes.iter().map(|r| r.gateway).collect();
    assert_eq!(gateways, [ip("10.0.0.2"), ip("10.0.0.4")]);
    assert_eq!(
        state(&states, "F5SPKStaticRoute", "b"),
        "Error Conflict: destination 10.8.0.0/16 is taken by F5SPKStaticRoute default/z"
    );
}

#[test]
fn a_wrong_version_leaves_the_last_good_one() {
    let mut store = store(&[vlan("a", "interfaces: ['1.1'], tag: 5")]);
    let before = config::resolve(&store, 0);
    let wrong = vlan("a", "interfaces: ['1.1'], tag: 5000");
    store.apply(&wrong, &Owner::fixed("test")).unwrap_err();
    assert_eq!(config::resolve(&store, 0), before);
}

fn snat_pool(name: &str, addresses: &str) -> Value {
    object(&format!(
        "{{apiVersion: k8s.f5net.com/v1, kind: F5SPKSnatpool, metadata: {{name: '{name}'}}, \
         spec: {{name: '{name}', addressList: {addresses}}}}}"
    ))
}

fn egress(name: &str, spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: k8s.f5net.com/v3, kind: F5SPKEgress, metadata: {{name: '{name}'}}, \
         spec: {{{spec}}}}}"
    ))
}

#[test]
fn an_egress_waits_for_its_pool_and_for_an_internal_vlan() {
    let mut objects = vec![egress("out", "egressSnatpool: p, dualStackEnabled: true")];
    let (config, states) = resolve(&objects, 0);
    assert_eq!(
        state(&states, "F5SPKEgress", "out"),
        "Pending VlanNotFound: there is no VLAN with internal: true, and spec.vlans names none; \
         SNAT pool \"p\" named in spec.egressSnatpool not found"
    );
    assert_eq!(config.egresses.len(), 1);
    objects.push(vlan(
        "in",
        "interfaces: ['1.1'], internal: true, selfip_v4s: [10.1.0.1], prefixlen_v4: 24",
    ));
    objects.push(snat_pool("p", "[[192.0.2.1], [192.0.2.2, 'fd00::2']]"));
    let (_, states) = resolve(&objects, 0);
    assert_eq!(
        state(&states, "F5SPKEgress", "out"),
        "Pending NoSnatAddress: SNAT pool \"p\" named in spec.egressSnatpool has no IPv6 address here"
    );
    let (config, states) = resolve(&objects, 1);
    assert_eq!(state(&states, "F5SPKEgress", "out"), "Programmed");
    assert_eq!(config.snat_pools[0].addresses.len(), 2);
    let (_, states) = resolve(&objects, 2);
    assert_eq!(
        state(&states, "F5SPKSnatpool", "p"),
        "Pending NoSnatAddress: no SNAT address for replica 2: spec.addressList has lists for 2 replicas"
    );
}

#[test]
fn an_address_belongs_to_one_pool_and_to_no_vlan() {
    let objects = [
        vlan(
            "a",
            "interfaces: ['1.1'], selfip_v4s: [10.1.0.1], prefixlen_v4: 24",
        ),
        created(
            snat_pool("p", "[10.1.0.1, 10.1.0.2]"),
            "2026-01-01T00:00:00Z",
        ),
        created(
            snat_pool("q", "[10.1.0.2, 10.1.0.3]"),
            "2026-01-02T00:00:00Z",
        ),
    ];
    let (config, states) = resolve(&objects, 0);
    assert_eq!(
        state(&states, "F5SPKSnatpool", "p"),
        "Error Conflict: 10.1.0.1 is a self IP of VLAN \"a\"; automap translates to self IPs"
    );
    assert_eq!(
        state(&states, "F5SPKSnatpool", "q"),
        "Error Conflict: 10.1.0.2 is taken by F5SPKSnatpool default/p"
    );
    let addresses: Vec<String> = config
        .snat_pools
        .iter()
        .map(|pool| format!("{:?}", pool.addresses))
        .collect();
    assert_eq!(addresses, ["[10.1.0.2]", "[10.1.0.3]"]);
}

#[test]
fn a_wildcard_on_the_vlan_of_an_egress_is_in_conflict_with_it() {
    let objects = [
        vlan(
            "in",
            "interfaces: ['1.1'], internal: true, selfip_v4s: [10.1.0.1], prefixlen_v4: 24",
        ),
        created(egress("out", ""), "2026-01-01T00:00:00Z"),
        created(
            egress("late", "vlans: {vlanList: [in]}"),
            "2026-01-02T00:00:00Z",
        ),
    ];
    let (config, states) = resolve(&objects, 0);
    assert_eq!(state(&states, "F5SPKEgress", "out"), "Programmed");
    assert_eq!(
        state(&states, "F5SPKEgress", "late"),
        "Error Conflict: TCP 0.0.0.0/0 on VLAN \"in\" is taken by F5SPKEgress default/out; \
         UDP 0.0.0.0/0 on VLAN \"in\" is taken by F5SPKEgress default/out"
    );
    assert_eq!(config.egresses.len(), 1);
}
