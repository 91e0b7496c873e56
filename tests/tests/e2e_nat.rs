//! The way out of the cluster with real stacks: pods (the backends' hosts) reach a server outside (the
//! client's host), and a STUN server there tells how they were translated.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::resources::{self, BACKEND_ECHO, BACKEND_HTTP, CLIENT};
use tests::lab::{Lab, Options, Process, Result, ensure, eventually, program};

/// The server outside has two addresses, so that it can be asked to answer from the other.
const OTHER: &str = "192.0.2.11";
const POOL: &str = "192.0.2.50";
const POOL6: &str = "2001:db8:100::50";
/// Below 1024, so never kept: each translation shows what it depends on. One for each question, as
/// the answer to one would be spoilt by the flows of another.
const LOCAL_PORTS: [&str; 2] = ["500", "501"];

fn egress(fields: &Value) -> Vec<Value> {
    let mut spec = json!({"dualStackEnabled": true});
    for (name, value) in fields.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    vec![
        json!({
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKSnatpool",
            "metadata": {"name": "out"},
            "spec": {"name": "out", "addressList": [[POOL, POOL6]]},
        }),
        json!({
            "apiVersion": "k8s.f5net.com/v3", "kind": "F5SPKEgress",
            "metadata": {"name": "egress"},
            "spec": spec,
        }),
    ]
}

/// A lab with an egress, and servers outside.
fn lab(fields: &Value, options: &Options) -> Result<(Lab, Process)> {
    let lab = Lab::start(options)?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&egress(fields))?;
    lab.client
        .ip(&["address", "add", &format!("{OTHER}/24"), "dev", "eth0"])?;
    let http = format!("--http=[::]:{BACKEND_HTTP}");
    let echo = format!("--udp=[::]:{BACKEND_ECHO}");
    let mut server = lab.client.spawn(
        &program("lab-server")?,
        &["--name", "outside", &http, &echo],
        lab.directory().join("outside.log"),
    )?;
    server.await_ready()?;
    eventually(Duration::from_secs(15), || {
        ping(&lab, 0, CLIENT[0])?;
        ping(&lab, 0, CLIENT[1])
    })?;
    Ok((lab, server))
}

fn ping(lab: &Lab, backend: usize, to: &str) -> Result {
    let args = ["-c", "1", "-W", "1", to];
    lab.backends[backend].run("ping", &args).map(drop)
}

fn curl(lab: &Lab, backend: usize, to: &str) -> Result<String> {
    let url = if to.contains(':') {
        format!("http://[{to}]:{BACKEND_HTTP}/")
    } else {
        format!("http://{to}:{BACKEND_HTTP}/")
    };
    let finished = lab.backends[backend].run("curl", &["-gsSf", "--max-time", "5", &url])?;
    Ok(finished.text())
}

fn everything_goes_out(fields: &Value, options: &Options) -> Result {
    let (lab, _server) = lab(fields, options)?;
    for backend in 0..3 {
        for to in CLIENT {
            ping(&lab, backend, to)?;
            curl(&lab, backend, to)?;
            let target = if to.contains(':') {
                format!("[{to}]:{BACKEND_ECHO}")
            } else {
                format!("{to}:{BACKEND_ECHO}")
            };
            let report = lab.backends[backend].run(
                program("lab-client")?,
                &["udp", &target, "--count=10", "--size", "64"],
            )?;
            let report: Value = serde_json::from_str(&report.text()).unwrap_or_default();
            ensure(report["asked"] == report["answered"], || report.to_string())?;
        }
    }
    // What the server outside saw.
    let own = [POOL, POOL6, "192.0.2.1", "2001:db8:100::1"];
    let seen = lab.tmm.show("connections")?;
    ensure(seen.iter().any(|row| row["protocol"] == "icmp"), || {
        format!("no echo among {seen:?}")
    })?;
    for row in &seen {
        let text = row.to_string();
        ensure(own.iter().any(|addr| text.contains(addr)), || {
            format!("not translated: {text}")
        })?;
    }
    lab.finish()
}

#[test]
fn pods_reach_the_outside_by_automap() -> Result {
    everything_goes_out(
        &json!({"snatType": "SRC_TRANS_AUTOMAP"}),
        &Options::default(),
    )
}

#[test]
fn pods_reach_the_outside_by_a_snat_pool() -> Result {
    everything_goes_out(&json!({"egressSnatpool": "out"}), &Options::default())
}

#[test]
fn pods_reach_the_outside_with_mappings_and_three_workers() -> Result {
    let options = Options {
        tmm: vec!["--workers=3".to_owned()],
        ..Options::default()
    };
    let fields = json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT"});
    everything_goes_out(&fields, &options)
}

/// What coturn's discovery (RFC 5780) says of one behaviour.
fn discovered(lab: &Lab, what: &str, port: &str) -> Result<String> {
    let from = resources::backend(1)[0].clone();
    let args = [what, "-L", &from, "-l", port, CLIENT[0]];
    let limit = Duration::from_secs(40);
    let finished = lab.backends[0].try_run("turnutils_natdiscovery", &args, limit)?;
    Ok(finished.text())
}

/// Starts the STUN server, which answers from two addresses and two ports.
fn stun(lab: &Lab) -> Result<Process> {
    let log = lab.directory().join("turn.log");
    let server = lab.client.spawn(
        Path::new("turnserver"),
        &[
            "-n",
            "-L",
            CLIENT[0],
            "-L",
            OTHER,
            "-p",
            "3478",
            "--alt-listening-port",
            "3479",
            "--no-auth",
            "--no-tls",
            "--no-dtls",
            "-S",
            "--log-file",
            "stdout",
            "--pidfile",
            "/dev/null",
        ],
        log,
    )?;
    eventually(Duration::from_secs(10), || {
        let open = lab.client.run("ss", &["-Hlun", "sport", "=", "3479"])?;
        ensure(open.text().lines().count() >= 2, || {
            format!("the STUN server does not listen: {}", open.text())
        })
    })?;
    Ok(server)
}

fn discovery(fields: &Value, mapping: &str, filtering: &str) -> Result {
    let (lab, _server) = lab(fields, &Options::default())?;
    let _stun = stun(&lab)?;
    let questions = [("-m", mapping), ("-f", filtering)];
    for ((what, expected), port) in questions.into_iter().zip(LOCAL_PORTS) {
        let said = discovered(&lab, what, port)?;
        ensure(said.contains(expected), || {
            format!("{fields}: expected \"{expected}\", coturn says\n{said}")
        })?;
    }
    lab.finish()
}

// case RFC-001: coturn finds the mapping and filtering that each option promises
#[test]
fn discovery_finds_that_by_default_mapping_and_filtering_depend_on_address_and_port() -> Result {
    discovery(
        &json!({"egressSnatpool": "out"}),
        "Address and Port Dependent Mapping!",
        "Address and Port Dependent Filtering!",
    )
}

// case RFC-001: an endpoint-independent mapping does not open the filter
#[test]
fn discovery_finds_an_independent_mapping_whose_filter_is_as_tight_as_ever() -> Result {
    discovery(
        &json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT"}),
        "NAT with Endpoint Independent Mapping!",
        "Address and Port Dependent Filtering!",
    )
}

// case RFC-001: filtering by address
#[test]
fn discovery_finds_filtering_by_address_where_it_is_asked_for() -> Result {
    discovery(
        &json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT",
            "natFiltering": "ADDRESS_DEPENDENT"}),
        "NAT with Endpoint Independent Mapping!",
        "NAT with Address Dependent Filtering!",
    )
}

// case RFC-001: no filtering
#[test]
fn discovery_finds_no_filtering_where_it_is_asked_for() -> Result {
    discovery(
        &json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT",
            "natFiltering": "ENDPOINT_INDEPENDENT"}),
        "NAT with Endpoint Independent Mapping!",
        "NAT with Endpoint Independent Filtering!",
    )
}

#[test]
fn a_client_with_as_many_mappings_as_it_may_is_refused_more_and_the_pool_is_named() -> Result {
    let fields = json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT",
        "maxMappingsPerClient": 8, "udpIdleTimeout": 10});
    let (lab, _server) = lab(&fields, &Options::default())?;
    let target = format!("{}:{BACKEND_ECHO}", CLIENT[0]);
    let limit = Duration::from_mins(1);
    let args = ["udp", &target, "--count=30", "--size", "64"];
    let finished = lab.backends[0].try_run(program("lab-client")?, &args, limit)?;
    let report: Value = serde_json::from_str(&finished.text()).unwrap_or_default();
    let answered = report["answered"].as_u64().unwrap_or(u64::MAX);
    // Each that is refused takes a second, and after ten the first mappings have ended.
    ensure((1..30).contains(&answered), || format!("{report}"))?;
    // Another client has mappings of its own.
    ping(&lab, 1, CLIENT[0])?;
    eventually(Duration::from_secs(10), || {
        let pools = lab.tmm.show("snat-pools")?;
        let refused = pools
            .iter()
            .find(|row| row["snatPool"] == "out")
            .and_then(|row| row["mappingsRefused"].as_u64());
        ensure(refused.is_some_and(|n| n > 0), || format!("{pools:?}"))?;
        let log = lab.tmm.process.output();
        ensure(
            log.contains("as many port mappings") && log.contains("out"),
            || "the log does not name the pool".to_owned(),
        )
    })?;
    // When its flows have ended there is room again.
    eventually(Duration::from_secs(30), || {
        curl(&lab, 0, CLIENT[0]).map(drop)
    })?;
    lab.finish()
}

/// Has a port of its own mapped, over TCP and UDP, and serves there whoever comes.
const CALLED: &str = r#"
import socket, sys
own, server, http, echo, port = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
family = socket.AF_INET6 if ":" in own else socket.AF_INET
def bound(kind):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.settimeout(30)
    s.bind((own, port))
    return s
out = bound(socket.SOCK_STREAM)
out.connect((server, http))
listener = bound(socket.SOCK_STREAM)
listener.listen()
datagrams = bound(socket.SOCK_DGRAM)
datagrams.sendto(b"hello", (server, echo))
datagrams.recvfrom(100)
print("READY", flush=True)
caller, peer = listener.accept()
print("tcp from", peer[0], flush=True)
while block := caller.recv(65536):
    caller.sendall(block)
for _ in range(2):
    got, peer = datagrams.recvfrom(3000)
    datagrams.sendto(got, peer)
    print("udp from", peer[0], flush=True)
"#;

/// Calls there by the translated address.
const CALLER: &str = r#"
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
caller = socket.create_connection((address, port), timeout=10)
for n in range(64):
    block = bytes([n]) * 16384
    caller.sendall(block)
    got = b""
    while len(got) < len(block):
        more = caller.recv(len(block) - len(got))
        assert more, "closed early"
        got += more
    assert got == block, "not what was sent"
print("tcp to", caller.getpeername()[0])
caller.close()
family = socket.AF_INET6 if ":" in address else socket.AF_INET
datagrams = socket.socket(family, socket.SOCK_DGRAM)
datagrams.settimeout(5)
# Whole, and in fragments.
for size in 1000, 2500:
    datagrams.sendto(b"d" * size, (address, port))
    got, peer = datagrams.recvfrom(3000)
    assert got == b"d" * size and peer[:2] == (address, port), peer
    print("udp to", peer[0], flush=True)
"#;

/// A pod calls another by the address that both are translated to: each sees that, and nothing from within.
fn pods_call_each_other(options: &Options) -> Result {
    let fields = json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT",
        "natFiltering": "ENDPOINT_INDEPENDENT"});
    let (lab, _server) = lab(&fields, options)?;
    let translated = [POOL, POOL6];
    for (family, port) in ["7100", "7101"].into_iter().enumerate() {
        let (own, outside) = (&resources::backend(2)[family], CLIENT[family]);
        let (http, echo) = (BACKEND_HTTP.to_string(), BACKEND_ECHO.to_string());
        let args = ["-c", CALLED, own, outside, &http, &echo, port];
        let log = lab.directory().join(format!("called{family}.log"));
        let mut called = lab.backends[1].spawn(Path::new("python3"), &args, log)?;
        called.await_ready()?;
        let address = translated[family];
        let args = ["-c", CALLER, address, port];
        let limit = Duration::from_secs(40);
        let caller = lab.backends[0].try_run("python3", &args, limit)?;
        ensure(caller.success(), || {
            format!("{caller:?}\nthe other says\n{}", called.output())
        })?;
        called.await_end(limit)?;
        for kind in ["tcp", "udp"] {
            let (to, from) = (
                format!("{kind} to {address}"),
                format!("{kind} from {address}"),
            );
            ensure(
                caller.text().contains(&to) && called.output().contains(&from),
                || format!("{}\nthe other says\n{}", caller.text(), called.output()),
            )?;
        }
    }
    let turned = lab.tmm.total("workers", "hairpinPackets")?;
    ensure(turned > 300, || format!("{turned} packets came round"))?;
    lab.finish()
}

// case RFC-002: RFC 4787 REQ-9 and RFC 5382 REQ-8 between real stacks
#[test]
fn pods_call_each_other_by_the_address_they_share() -> Result {
    pods_call_each_other(&Options::default())
}

// case RFC-002: the same where the two belong to different workers
#[test]
fn pods_call_each_other_by_the_address_they_share_with_three_workers() -> Result {
    pods_call_each_other(&Options {
        tmm: vec!["--workers=3".to_owned()],
        ..Options::default()
    })
}

// case RFC-001: coturn's own packet to its own mapping comes back where filtering lets strangers in, and only there
#[test]
fn discovery_finds_hairpinning_as_filtering_lets_it_through() -> Result {
    for (filtering, expected) in [("ENDPOINT_INDEPENDENT", true), ("ADDRESS_DEPENDENT", false)] {
        let fields = json!({"egressSnatpool": "out", "natMapping": "ENDPOINT_INDEPENDENT",
            "natFiltering": filtering});
        let (lab, _server) = lab(&fields, &Options::default())?;
        let _stun = stun(&lab)?;
        let said = discovered(&lab, "-H", LOCAL_PORTS[0])?;
        ensure(said.contains("successful hairpinning") == expected, || {
            format!("{filtering}: coturn says\n{said}")
        })?;
        lab.finish()?;
    }
    Ok(())
}
