//! Datagrams with real sockets: balanced one by one, and without a checksum.

use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::resources::{self, ECHO, VIP};
use tests::lab::{Lab, Options, Result, ensure};

/// One socket asks thirty times and says where answers came from, and how often each backend gave one.
const ASK: &str = r#"
import collections, json, socket, sys
address, family = sys.argv[1], socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(3)
if "nosum" in sys.argv[2:]:
    s.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
names, sources, answers = collections.Counter(), set(), 0
for n in range(30):
    s.sendto(b"whoami", (address, 7))
    try:
        data, source = s.recvfrom(2000)
    except TimeoutError:
        continue
    answers += 1
    sources.add(source[:2])
    names[data.decode()] += 1
print(json.dumps({"answers": answers, "sources": sorted(sources), "names": names}))
"#;

fn ask(lab: &Lab, args: &[&str]) -> Result<Value> {
    let mut all = vec!["-c", ASK];
    all.extend(args);
    let limit = Duration::from_mins(2);
    let said = lab.client.try_run("python3", &all, limit)?.ok()?.text();
    Ok(serde_json::from_str(&said)?)
}

fn each_by_itself(snat: &str) -> Result {
    let lab = Lab::with_everything(&Options::default(), snat)?;
    let mut echo = resources::virtual_server("echo", ECHO, VIP, snat, 5);
    echo["spec"]["datagramLoadBalancing"] = json!(true);
    lab.tmm.apply(&[echo])?;
    for address in VIP {
        let report = ask(&lab, &[address])?;
        ensure(report["answers"] == 30, || format!("{report}"))?;
        // All from the virtual server, whoever gave them.
        ensure(report["sources"] == json!([[address, ECHO]]), || {
            format!("{report}")
        })?;
        // Each backend in turn, though it was one socket.
        let shares = report["names"]
            .as_object()
            .map(|names| names.values().collect::<Vec<_>>());
        ensure(shares == Some(vec![&json!(10); 3]), || format!("{report}"))?;
    }
    lab.finish()
}

#[test]
fn one_sockets_datagrams_reach_every_backend() -> Result {
    each_by_itself("SRC_TRANS_NONE")
}

#[test]
fn one_sockets_datagrams_reach_every_backend_with_automap() -> Result {
    each_by_itself("SRC_TRANS_AUTOMAP")
}

#[test]
fn datagrams_without_a_checksum_are_answered_over_ipv4() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    let report = ask(&lab, &[VIP[0], "nosum"])?;
    ensure(report["answers"] == 30, || format!("{report}"))?;
    lab.finish()
}
