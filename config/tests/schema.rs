//! The custom resource definitions say what the readers say.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;
mod schema_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{SITE, objects};
use config::{Kind, resource, schema};
use proptest::prelude::*;
use schema_support::{Api, break_up};
use serde_json::{Value, json};

/// What only tmm can judge: an API server knows no addresses, only texts.
const BEYOND: [&str; 5] = [
    "is no SNAT pool address",
    "has bits set beyond its",
    "is listed twice",
    "is the network or broadcast address of its",
    "and more errors",
];

fn custom() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_custom())
}

/// Both verdicts on an object, held against each other.
fn compare(api: &Api, object: &Value) -> Result<bool, TestCaseError> {
    let refused = api.errors(object);
    match resource::parse(object) {
        Ok(_) => prop_assert!(
            refused.is_empty(),
            "tmm takes what the API server refuses: {refused:?}\n{object}"
        ),
        Err(errors) if refused.is_empty() => {
            for error in errors {
                prop_assert!(
                    BEYOND.iter().any(|known| error.message.contains(known)),
                    "the API server takes what tmm refuses: {error}\n{object}"
                );
            }
        }
        Err(_) => {}
    }
    Ok(refused.is_empty())
}

/// Good objects of every custom kind, between them with every field.
fn good() -> Vec<Value> {
    let mut all = objects(SITE);
    all.retain(|object| object["apiVersion"].as_str().unwrap().contains("f5net"));
    let spec = |kind: Kind, spec: Value| {
        json!({"apiVersion": kind.api_version(), "kind": kind.name(),
            "metadata": {"name": "x"}, "spec": spec})
    };
    all.push(spec(
        Kind::Vlan,
        json!({"name": "full", "tag": 4094, "outerTag": 1, "interfaces": ["1.1", "1.255"],
            "bonded": false, "internal": false, "mtu": 1500, "selfip_v4s": ["10.0.0.1"],
            "prefixlen_v4": 31, "selfip_v6s": ["fe80::1"], "prefixlen_v6": 128,
            "allowed_services": [{"protocol": "TCP", "port": 0}, {"protocol": "any"}],
            "trunk_hash": "DST_MAC", "cmp_hash": "DEFAULT", "pod_hash": "SRC_ADDR",
            "auto_lasthop": "AUTO_LASTHOP_DISABLED", "category": "x"}),
    ));
    all.push(spec(
        Kind::StaticRoute,
        json!({"destination": "2001:db8::", "prefixLen": 32, "type": "gateway",
            "gateway": "fe80::1", "interface": "x"}),
    ));
    let mut full = all
        .iter()
        .find(|o| o["kind"] == "F5SPKIngressTCP")
        .unwrap()
        .clone();
    full["spec"]["vlans"] =
        json!({"vlanList": ["a", "b"], "category": "c", "disableListedVlans": true});
    full["spec"]["destinationAddress"] = "0.0.0.0/0".into();
    full["spec"]["ipv6destinationAddress"] = "::/0".into();
    full["service"]["port"] = "http-1".into();
    full["monitors"]["icmp"] = json!([{"interval": 1}, {}]);
    full["monitors"]["udp"] = json!([{"timeout": 86400}]);
    full["status"] = json!({"conditions": []});
    all.push(full);
    let mut of_pool = all
        .iter()
        .find(|o| o["kind"] == "F5SPKIngressTCP")
        .unwrap()
        .clone();
    of_pool["spec"]["snat"] = "SRC_TRANS_SNATPOOL".into();
    of_pool["spec"]["snatpool"] = "out".into();
    all.push(of_pool);
    all.push(spec(
        Kind::Snatpool,
        json!({"name": "out", "addressList": [["10.0.0.1", "fd00::1"], ["10.0.0.2"], []],
            "sharedSnatAddressEnabled": false}),
    ));
    all.push(spec(
        Kind::Snatpool,
        json!({"name": "flat", "addressList": ["10.0.0.1", "fd00::1"]}),
    ));
    all.push(spec(
        Kind::Egress,
        json!({"snatType": "SRC_TRANS_SNATPOOL", "egressSnatpool": "out", "dualStackEnabled": true,
            "vlans": {"vlanList": ["a"], "category": "c", "disableListedVlans": false},
            "natMapping": "ENDPOINT_INDEPENDENT", "natFiltering": "ADDRESS_DEPENDENT",
            "maxMappingsPerClient": 5, "tcpIdleTimeout": 1, "udpIdleTimeout": 2,
            "icmpIdleTimeout": 3, "otherIdleTimeout": 4, "dnsNat46Enabled": false,
            "dnsNat46Ipv4Subnet": "10.1.0.0/16", "dnsNat46PoolIps": [], "maxTmmReplicas": 1,
            "maxReservedStaticIps": 0, "nat64Enabled": false, "nat64Ipv6Subnet": "64:ff9b::/96",
            "dnsCacheName": "", "firewallEnforcedPolicy": ""}),
    ));
    all.push(spec(
        Kind::Egress,
        json!({"egressSnatpool": "", "natFiltering": "ADDRESS_AND_PORT_DEPENDENT"}),
    ));
    all.push(spec(Kind::Egress, json!({"snatType": "SRC_TRANS_NONE"})));
    all
}

/// What is put in place of a good value.
fn values() -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(true),
        json!(1.5),
        json!([]),
        json!({}),
        json!({"x": 1}),
        json!({"interval": 3}),
        json!({"timeout": 3}),
        json!({"interval": 9, "timeout": 8}),
        json!([{"interval": 3}, {"timeout": 10}]),
        json!([{"timeout": 10}, {"interval": 1, "timeout": 2}, {"interval": 3}]),
        json!(["1.1", "1.1"]),
        json!([5]),
    ];
    let numbers = [
        -1i64,
        0,
        1,
        16,
        17,
        31,
        32,
        33,
        64,
        128,
        129,
        1499,
        1500,
        4094,
        4095,
        9000,
        9001,
        65535,
        65536,
        86_400,
        86_401,
        4_294_967_295,
        4_294_967_296,
    ];
    all.extend(numbers.map(Value::from));
    let texts = [
        "",
        "a",
        "80",
        "+80",
        "-",
        "a-",
        "http",
        "Http",
        "ANY",
        "tcp",
        "gre",
        "1.1",
        "1.0",
        "1.01",
        "1.256",
        "2.1",
        "10.0.0.1",
        "10.0.0.0",
        "10.0.0.1/24",
        "10.0.0.0/24",
        "10.0.0.0/024",
        "10.0.0.0/+8",
        "10.0.0.0/33",
        "010.0.0.1",
        "10.0.0",
        "0.0.0.0",
        "0.0.0.0/0",
        "224.0.0.1",
        "239.1.2.3",
        "224.0.0.0/4",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::/0",
        "0:0::0",
        "::0.0.0.0",
        "::10.0.0.1",
        "fd00::1",
        "fd00::/64",
        "fd00::1/64",
        "fd00::/129",
        "fe80::1",
        "FE80::1%eth0",
        "ff02::1",
        "ff::1",
        "::ffff:10.0.0.1",
        "::ffff:0:0/96",
        "SRC_ADDR",
        "DEFAULT",
        "gateway",
        "ROUND_ROBIN",
        "NONE",
        "SRC_TRANS_SNATPOOL",
        "AUTO_LASTHOP_DEFAULT",
        "a b",
        "é",
        "SRC_DST_IPPORT",
    ];
    all.extend(texts.map(Value::from));
    all.extend(["x".repeat(63), "x".repeat(64)].map(Value::from));
    all
}

#[test]
fn what_is_committed_is_what_is_generated() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let mut expected = BTreeSet::from(["kustomization.yaml".to_owned()]);
    for kind in custom() {
        let name = format!("{}.yaml", kind.plural());
        let text = format!(
            "# Made from the readers of the resources: make bless-crds, or tmmctl crds\n{}",
            schema::yaml(kind)
        );
        let path = directory.join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is not what the readers say: make bless-crds, and look at the difference",
            path.display()
        );
        expected.insert(name);
    }
    let files = fs::read_dir(&directory).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, expected, "and nothing else is there");
}

#[test]
fn the_yaml_is_the_definition() {
    for kind in custom() {
        assert_eq!(objects(&schema::yaml(kind)), [schema::definition(kind)]);
    }
}

#[test]
fn good_objects_are_good_to_an_api_server() {
    let api = Api::new();
    let mut fields = BTreeSet::new();
    for object in good() {
        resource::parse(&object).unwrap_or_else(|errors| panic!("{errors:?}\n{object}"));
        assert_eq!(api.errors(&object), Vec::<String>::new(), "{object}");
        break_up(&object, &mut |path, _| {
            fields.insert((object["kind"].as_str().unwrap().to_owned(), path.to_owned()));
        });
    }
    assert!(fields.contains(&("F5SPKVlan".to_owned(), "/spec/outerTag".to_owned())));
}

#[test]
fn manifests_of_the_demo_are_good_to_an_api_server() {
    let api = Api::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let mut count = 0;
    for document in config::document::read_path(&demo).unwrap() {
        let object = document.content.unwrap();
        if object["apiVersion"].as_str().unwrap().contains("f5net") {
            assert_eq!(api.errors(&object), Vec::<String>::new(), "{object}");
            count += 1;
        }
    }
    assert!(count >= 4, "{count}");
}

#[test]
fn each_rule_is_broken_by_an_object_and_says_so() {
    let api = Api::new();
    let mut good = good();
    let telecom = |kind: &str, spec: Value| {
        json!({"apiVersion": "k8s.f5net.com/v1", "kind": kind, "metadata": {"name": "t"},
            "service": {"name": "t", "port": 1}, "spec": spec})
    };
    let place =
        json!({"destinationAddress": "203.0.113.1", "ipv6destinationAddress": "2001:db8::1"});
    good.push(telecom("F5SPKIngressNGAP", place.clone()));
    let diameter = json!({"externalTCP": place, "externalSCTP": place});
    good.push(telecom("F5SPKIngressDiameter", diameter));
    for object in &good {
        assert_eq!(api.errors(object), Vec::<String>::new(), "{object}");
    }
    let at = |kind: Kind, nth: usize| {
        let mut found = good.iter().filter(|object| object["kind"] == kind.name());
        found.nth(nth).unwrap().clone()
    };
    let mut broken = Vec::new();
    let mut with = |kind, nth, change: &dyn Fn(&mut Value)| {
        let mut object = at(kind, nth);
        change(&mut object);
        broken.push(object);
    };
    let drop = |object: &mut Value, name: &str| {
        object["spec"].as_object_mut().unwrap().remove(name);
    };
    for name in [
        "tag",
        "prefixlen_v4",
        "selfip_v4s",
        "prefixlen_v6",
        "selfip_v6s",
    ] {
        with(Kind::Vlan, 2, &|object| drop(object, name));
    }
    with(Kind::Vlan, 0, &|o| {
        o["spec"]["interfaces"] = json!(["1.1", "1.2", "1.1"]);
    });
    with(Kind::Vlan, 0, &|o| {
        o["spec"]["selfip_v4s"] = json!(["224.0.0.1"]);
    });
    with(Kind::Vlan, 0, &|o| {
        o["spec"]["selfip_v6s"] = json!(["ff02::1"]);
    });
    with(Kind::StaticRoute, 0, &|o| {
        o["spec"]["gateway"] = "255.255.255.255".into();
    });
    with(Kind::StaticRoute, 0, &|o| {
        o["spec"]["prefixLen"] = 33.into();
    });
    with(Kind::StaticRoute, 0, &|o| {
        o["spec"]["gateway"] = "fd00::1".into();
    });
    with(Kind::StaticRoute, 1, &|o| drop(o, "interface"));
    for kind in [
        Kind::IngressTcp,
        Kind::IngressUdp,
        Kind::IngressNgap,
        Kind::IngressDiameter,
    ] {
        // Where it listens is said one level deeper for Diameter, twice.
        let places: &[fn(&mut Value) -> &mut Value] = if kind == Kind::IngressDiameter {
            &[
                |o| &mut o["spec"]["externalTCP"],
                |o| &mut o["spec"]["externalSCTP"],
            ]
        } else {
            &[|o| &mut o["spec"]]
        };
        for place in places {
            with(kind, 0, &|o| {
                let place = place(o).as_object_mut().unwrap();
                place.remove("destinationAddress");
                place.remove("ipv6destinationAddress");
            });
            with(kind, 0, &|o| {
                place(o)["destinationAddress"] = "0.0.0.0".into();
            });
            with(kind, 0, &|o| {
                place(o)["ipv6destinationAddress"] = "ff02::1".into();
            });
        }
        with(kind, 0, &|o| {
            o["spec"]["vlans"] = json!({"disableListedVlans": true});
        });
        with(kind, 0, &|o| {
            o["spec"]["snat"] = "SRC_TRANS_AUTOMAP".into();
            o["spec"]["snatpool"] = "x".into();
        });
        with(kind, 0, &|o| {
            o["spec"]["snat"] = "SRC_TRANS_SNATPOOL".into();
        });
        with(kind, 0, &|o| {
            o["spec"]["persistence"] = json!({"type": "SOURCE_ADDR"});
        });
        with(kind, 0, &|o| {
            o["service"]["port"] = "80".into();
        });
        for monitor in ["tcp", "icmp", "http", "udp"] {
            with(kind, 0, &|o| {
                o["monitors"] = json!({monitor: [{"interval": 3}, {"timeout": 10}]});
            });
            with(kind, 0, &|o| {
                o["monitors"] = json!({monitor: [{"interval": 17}]});
            });
        }
    }
    for fields in [
        json!({"snatType": "SRC_TRANS_SNATPOOL"}),
        json!({"snatType": "SRC_TRANS_AUTOMAP", "egressSnatpool": "x"}),
        json!({"snatType": "SRC_TRANS_NONE", "natMapping": "ENDPOINT_INDEPENDENT"}),
        json!({"natFiltering": "ADDRESS_DEPENDENT"}),
        json!({"maxMappingsPerClient": 9}),
        json!({"vlans": {"disableListedVlans": true}}),
    ] {
        with(Kind::Egress, 2, &|o| o["spec"] = fields.clone());
    }
    with(Kind::IngressDiameter, 0, &|o| {
        drop(o, "externalTCP");
        drop(o, "externalSCTP");
    });
    for name in [
        "internalTCP",
        "internalSCTP",
        "externalSession",
        "internalSession",
    ] {
        with(Kind::IngressDiameter, 0, &|o| {
            o["spec"][name] = json!({"a": 1});
        });
    }
    let mut said = BTreeSet::new();
    for object in &broken {
        let errors = api.errors(object);
        assert_eq!(errors.len(), 1, "{errors:?}\n{object}");
        assert!(resource::parse(object).is_err(), "{object}");
        said.insert((
            object["kind"].as_str().unwrap().to_owned(),
            errors[0].clone(),
        ));
    }
    let rules: BTreeSet<(String, String)> = api.rules().into_iter().collect();
    assert_eq!(said, rules, "every rule, and nothing but rules");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn an_api_server_and_tmm_agree_on_every_object(
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(values()), 0..8u8), 0..3),
    ) {
        thread_local!(static API: Api = Api::new());
        let good = good();
        let mut object = at.get(&good).clone();
        for (place, value, how) in changes {
            let mut places = Vec::new();
            break_up(&object, &mut |path, _| {
                if !path.starts_with("/metadata") && !path.starts_with("/kind")
                    && !path.starts_with("/apiVersion") && !path.starts_with("/status")
                {
                    places.push(path.to_owned());
                }
            });
            if places.is_empty() {
                break;
            }
            let path = place.get(&places);
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).unwrap();
            match (how, parent) {
                (0, Value::Object(map)) => { map.shift_remove(name); }
                (1, Value::Object(map)) => {
                    let taken = map.shift_remove(name).unwrap();
                    map.insert(format!("{name}x"), taken);
                }
                (2, Value::Array(items)) => items.push(value),
                (_, _) => *object.pointer_mut(path).unwrap() = value,
            }
        }
        API.with(|api| compare(api, &object))?;
    }
}

/// The test above would be worth nothing if it saw only one side.
#[test]
fn single_changes_give_good_and_bad_objects() {
    let api = Api::new();
    let (mut taken, mut refused) = (0, 0);
    for object in good() {
        let mut places = Vec::new();
        break_up(&object, &mut |path, _| places.push(path.to_owned()));
        for path in places.iter().filter(|path| {
            path.starts_with("/s") && !path.starts_with("/status") || path.starts_with("/mon")
        }) {
            for value in values() {
                let mut changed = object.clone();
                *changed.pointer_mut(path).unwrap() = value;
                if compare(&api, &changed).unwrap_or_else(|error| panic!("{error}")) {
                    taken += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 500 && refused > 5000, "{taken} {refused}");
}
