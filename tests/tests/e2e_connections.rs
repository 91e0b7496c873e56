//! Many connections: all are served, all are closed, none is left behind.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{HTTP, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, eventually, resources, url};

fn states(rows: &[Value]) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for row in rows {
        *states
            .entry(row["state"].as_str().unwrap_or("?").to_owned())
            .or_default() += 1;
    }
    states
}

fn a_thousand(snat: &str) -> Result {
    let lab = Lab::with_everything(&Options::default(), snat)?;
    // What asked whether the virtual servers answer is on its way out meanwhile.
    for target in [format!("{}:{HTTP}", VIP[0]), format!("[{}]:{HTTP}", VIP[1])] {
        let report = thread::scope(|scope| {
            let client = scope.spawn(|| {
                lab.lab_client(&["connections", &target, "--count=1000", "--hold-ms=1500"])
            });
            eventually(Duration::from_secs(15), || {
                let open = states(&lab.tmm.show("connections")?);
                ensure(open.get("ESTABLISHED") == Some(&1000), || {
                    format!("of 1000 connections there are {open:?}")
                })
            })?;
            client
                .join()
                .map_err(|_| Failure::new("the client panicked"))?
        })?;
        ensure(report["answered"] == 1000, || {
            format!("not everyone was served: {report}")
        })?;
        let servers: Vec<u64> = report["servers"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values())
            .filter_map(Value::as_u64)
            .collect();
        ensure(
            servers.len() == 3 && servers.iter().all(|count| (320..=345).contains(count)),
            || format!("round robin gave {report}"),
        )?;
        // Closed by both ends: what is left is on its way out, nothing is established or reset.
        eventually(Duration::from_secs(3), || {
            let left = states(&lab.tmm.show("connections")?);
            ensure(left.keys().all(|state| state == "TIME_WAIT"), || {
                format!("connections are left: {left:?}")
            })
        })?;
    }
    lab.ensure_no_resets()?;
    lab.tmm.await_no_connections(Duration::from_secs(20))?;
    let workers = lab.tmm.show("workers")?;
    let sum = |column: &str| {
        workers
            .iter()
            .filter_map(|row| row[column].as_u64())
            .sum::<u64>()
    };
    ensure(
        sum("flows") == 0 && sum("flowsOpened") == sum("flowsEnded") && sum("flowsEvicted") == 0,
        || format!("opened and ended flows do not match: {workers:?}"),
    )?;
    for (number, backend) in (1..).zip(&lab.backends) {
        let page = format!("http://127.0.0.1:{}/stats", resources::BACKEND_HTTP);
        let stats: Value = serde_json::from_str(&backend.run("curl", &["-sS", &page])?.text())?;
        // The one that asks is open.
        ensure(stats["open"] == 1, || {
            format!("backend {number} still has connections: {stats}")
        })?;
    }
    lab.finish()
}

#[test]
fn a_thousand_parallel_connections_come_and_go_without_source_translation() -> Result {
    a_thousand("SRC_TRANS_NONE")
}

// case VPPN-007: many connections over all members, and everything that returns comes back to its client
#[test]
fn a_thousand_parallel_connections_come_and_go_with_automap() -> Result {
    a_thousand("SRC_TRANS_AUTOMAP")
}

#[test]
fn an_idle_connection_is_forgotten_after_its_timeout() -> Result {
    let lab = Lab::start(&Options::default())?;
    lab.tmm.apply(&resources::vlans(false, None))?;
    lab.tmm.apply(&resources::service([true; 3]))?;
    lab.tmm.apply(&[resources::virtual_server(
        "http",
        HTTP,
        VIP,
        "SRC_TRANS_NONE",
        2,
    )])?;
    lab.await_virtual_servers(VIP)?;
    thread::scope(|scope| {
        // Connected, and silent for longer than the timeout: the request then meets no flow.
        let client = scope.spawn(|| {
            let target = format!("{}:{HTTP}", VIP[0]);
            lab.lab_client(&[
                "connections",
                &target,
                "--count=5",
                "--hold-ms=6000",
                "--timeout=5",
            ])
        });
        eventually(Duration::from_secs(4), || {
            let left = states(&lab.tmm.show("connections")?);
            ensure(left.get("ESTABLISHED") == Some(&5), || {
                format!("the connections are {left:?}")
            })
        })?;
        eventually(Duration::from_secs(5), || {
            let left = states(&lab.tmm.show("connections")?);
            ensure(!left.contains_key("ESTABLISHED"), || {
                format!("idle connections are left: {left:?}")
            })
        })?;
        let report = client
            .join()
            .map_err(|_| Failure::new("the client panicked"))??;
        ensure(report["answered"] == 0, || {
            format!("a forgotten connection was served: {report}")
        })
    })?;
    // New ones are as welcome as ever.
    lab.get(&url(VIP[0], "/"))?;
    lab.finish()
}
