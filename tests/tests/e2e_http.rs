//! HTTP through a virtual server: spread, addresses as the backends see them, and every wiring.

use std::collections::BTreeMap;

use tests::lab::resources::{CLIENT, HTTP, INTERNAL_SELF, ON_LINK_VIP, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, pattern, resources, url};

/// How often each backend answers `count` requests, each on a connection of its own.
fn spread(lab: &Lab, address: &str, count: usize) -> Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        *answers.entry(lab.get(&url(address, "/"))?).or_default() += 1;
    }
    Ok(answers)
}

fn is_even(answers: &BTreeMap<String, usize>) -> bool {
    answers.len() == 3 && answers.values().all(|count| *count == 4)
}

/// The address a backend sees a connection come from.
fn seen_client(lab: &Lab, address: &str) -> Result<String> {
    let page = lab.get(&url(address, "/whoami"))?;
    let report: serde_json::Value = serde_json::from_str(&page)?;
    let client = report["client"].as_str().unwrap_or_default();
    let (ip, _port) = client
        .rsplit_once(':')
        .ok_or_else(|| Failure::new(format!("no client in {page}")))?;
    Ok(ip.trim_matches(['[', ']']).to_owned())
}

/// Sends `len` bytes down and up again; both must arrive intact.
fn transfers(lab: &Lab, address: &str, len: u64) -> Result {
    let want = pattern::sha256(len);
    let (down, up) = (
        url(address, &format!("/bytes/{len}")),
        url(address, "/upload"),
    );
    let file = lab.directory().join("transfer").display().to_string();
    let hash = lab.shell(&format!(
        "curl -gsSf --max-time 20 -o {file} {down}; sha256sum <{file}"
    ))?;
    ensure(hash.starts_with(&want), || {
        format!("{len} bytes from {address} arrived damaged")
    })?;
    let hash = lab.curl(&["--max-time", "20", "-T", &file, &up])?;
    ensure(hash == want, || {
        format!("{len} bytes to {address} arrived damaged")
    })
}

/// Everything a lab of any wiring must do.
fn balances(options: &Options, snat: &str, seen: [&str; 2]) -> Result {
    let lab = Lab::with_everything(options, snat)?;
    for (family, address) in VIP.iter().enumerate() {
        let answers = spread(&lab, address, 12)?;
        ensure(is_even(&answers), || {
            format!("round robin at {address} answered {answers:?}")
        })?;
        let client = seen_client(&lab, address)?;
        ensure(client == seen[family], || {
            format!("a backend sees {client}, not {}", seen[family])
        })?;
        // Frames of full size must fit with all their tags, both ways.
        transfers(&lab, address, 2 << 20)?;
    }
    lab.ensure_no_resets()?;
    lab.finish()
}

#[test]
fn without_source_translation_the_backends_see_the_client() -> Result {
    balances(&Options::default(), "SRC_TRANS_NONE", CLIENT)
}

#[test]
fn with_automap_the_backends_see_the_self_ip_of_their_vlan() -> Result {
    balances(&Options::default(), "SRC_TRANS_AUTOMAP", INTERNAL_SELF)
}

// case LNX-021: a router over two VLANs of one interface, with real hosts.
#[test]
fn one_port_can_carry_both_vlans() -> Result {
    balances(
        &Options {
            one_arm: true,
            ..Options::default()
        },
        "SRC_TRANS_NONE",
        CLIENT,
    )
}

#[test]
fn both_vlans_can_be_inside_a_service_vlan() -> Result {
    let options = Options {
        outer: Some(300),
        ..Options::default()
    };
    balances(&options, "SRC_TRANS_AUTOMAP", INTERNAL_SELF)
}

#[test]
fn the_clients_vlan_can_be_untagged() -> Result {
    let options = Options {
        untagged: true,
        ..Options::default()
    };
    balances(&options, "SRC_TRANS_NONE", CLIENT)
}

#[test]
fn one_port_can_carry_a_tagged_vlan_beside_the_untagged_one() -> Result {
    let options = Options {
        one_arm: true,
        untagged: true,
        ..Options::default()
    };
    balances(&options, "SRC_TRANS_AUTOMAP", INTERNAL_SELF)
}

#[test]
fn a_virtual_address_inside_the_clients_subnet_needs_no_route() -> Result {
    let lab = Lab::start(&Options::default())?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&resources::service([true; 3]))?;
    lab.tmm.apply(&[resources::virtual_server(
        "near",
        HTTP,
        ON_LINK_VIP,
        "SRC_TRANS_NONE",
        300,
    )])?;
    lab.await_virtual_servers(ON_LINK_VIP)?;
    for address in ON_LINK_VIP {
        let answers = spread(&lab, address, 12)?;
        ensure(is_even(&answers), || {
            format!("{address} answered {answers:?}")
        })?;
    }
    lab.finish()
}

#[test]
fn a_client_behind_a_router_is_answered_through_a_static_route() -> Result {
    let lab = Lab::start(&Options::default())?;
    // The last hop would find the way without any route.
    let mut objects = resources::everything(false, None, "SRC_TRANS_NONE");
    objects[0]["spec"]["auto_lasthop"] = "AUTO_LASTHOP_DISABLED".into();
    lab.tmm.apply(&objects)?;
    lab.await_virtual_servers(VIP)?;
    let far = ["10.99.0.1", "2001:db8:99::1"];
    lab.client
        .ip(&["address", "add", "10.99.0.1/32", "dev", "lo"])?;
    lab.client
        .ip(&["address", "add", "2001:db8:99::1/128", "dev", "lo", "nodad"])?;
    for (from, to) in far.iter().zip(VIP) {
        let asked = lab.curl(&["--max-time", "1", "--interface", from, &url(to, "/")]);
        ensure(asked.is_err(), || {
            format!("{from} is answered though there is no way back")
        })?;
    }
    lab.tmm.apply(&[
        resources::static_route("far-v4", "10.99.0.0", 24, CLIENT[0]),
        resources::static_route("far-v6", "2001:db8:99::", 64, CLIENT[1]),
    ])?;
    for (from, to) in far.iter().zip(VIP) {
        let page = tests::lab::eventually(std::time::Duration::from_secs(5), || {
            lab.curl(&["--max-time", "2", "--interface", from, &url(to, "/whoami")])
        })?;
        ensure(page.contains(from), || {
            format!("the backend sees another client: {page}")
        })?;
    }
    lab.finish()
}

#[test]
fn a_client_behind_a_router_is_answered_by_its_last_hop() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    lab.client
        .ip(&["address", "add", "10.99.0.1/32", "dev", "lo"])?;
    lab.client
        .ip(&["address", "add", "2001:db8:99::1/128", "dev", "lo", "nodad"])?;
    for (from, to) in ["10.99.0.1", "2001:db8:99::1"].iter().zip(VIP) {
        let page = lab.curl(&["--max-time", "5", "--interface", from, &url(to, "/whoami")])?;
        ensure(page.contains(from), || {
            format!("the backend sees another client: {page}")
        })?;
    }
    lab.finish()
}

#[test]
fn a_port_nobody_serves_is_refused_or_silent_but_never_balanced() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    for address in VIP {
        let place = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let asked = lab.curl(&["--max-time", "1", &format!("http://{place}:81/")]);
        ensure(asked.is_err(), || {
            format!("port 81 of {address} is answered")
        })?;
    }
    ensure(
        lab.tmm
            .show("connections")?
            .iter()
            .all(|row| !row.to_string().contains(":81\"")),
        || "a flow was made for a port nobody serves".to_owned(),
    )?;
    lab.finish()
}
