//! UDP through a virtual server.

use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{ECHO, VIP};
use tests::lab::{Lab, Options, Result, ensure, eventually};

fn target(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{ECHO}")
    } else {
        format!("{address}:{ECHO}")
    }
}

fn all_answered(report: &Value, servers: usize) -> Result {
    let good = report["asked"] == report["answered"]
        && report["servers"]
            .as_object()
            .is_some_and(|s| s.len() == servers);
    ensure(good, || format!("the echoes: {report}"))
}

fn echoes(snat: &str) -> Result {
    let lab = Lab::with_everything(&Options::default(), snat)?;
    for address in VIP {
        for size in ["1", "64", "1400"] {
            let report =
                lab.lab_client(&["udp", &target(address), "--count=30", "--size", size])?;
            all_answered(&report, 3)?;
        }
    }
    // The virtual servers' idle timeout is 5 s.
    let flows = lab.tmm.total("workers", "flows")?;
    // A later round may get a port of an earlier one, and with it its flow.
    ensure(flows >= 160, || {
        format!("only {flows} flows for 180 sockets")
    })?;
    eventually(Duration::from_secs(10), || {
        let left = lab.tmm.show("connections")?;
        ensure(left.iter().all(|row| row["protocol"] == "tcp"), || {
            format!("flows are left after the idle timeout: {left:?}")
        })
    })?;
    lab.finish()
}

#[test]
fn datagrams_are_echoed_with_the_clients_own_address() -> Result {
    echoes("SRC_TRANS_NONE")
}

#[test]
fn datagrams_are_echoed_with_automap() -> Result {
    echoes("SRC_TRANS_AUTOMAP")
}
