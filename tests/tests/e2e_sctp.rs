//! SCTP with a real stack on both sides: usrsctp's tsctp, which runs over raw sockets.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::{Lab, Namespace, Options, Process, Result, ensure, eventually, resources};

const TSCTP: &str = "/usr/lib/usrsctp/tsctp";
const VIP: &str = resources::VIP[0];
const NGAP: &str = "38412";

/// The Service of the three backends, its list, and the virtual server.
fn objects(snat: &str, backends: &[usize], idle: u32) -> Vec<Value> {
    let endpoints: Vec<Value> = backends
        .iter()
        .map(|n| json!({"addresses": [resources::backend(*n)[0]], "conditions": {"ready": true}}))
        .collect();
    let mut objects = resources::vlans(false, None).to_vec();
    objects.extend([
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "amf"},
            "spec": {"ports": [{"name": "ngap", "port": 38412, "protocol": "SCTP"}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "amf-1", "labels": {"kubernetes.io/service-name": "amf"}},
            "addressType": "IPv4",
            "ports": [{"name": "ngap", "port": 5001, "protocol": "SCTP"}],
            "endpoints": endpoints,
        }),
        json!({
            "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKIngressNGAP", "metadata": {"name": "amf"},
            "service": {"name": "amf", "port": "ngap"},
            "spec": {"destinationAddress": VIP, "snat": snat, "idleTimeout": idle},
        }),
    ]);
    objects
}

/// Keeps the kernel from saying that nobody speaks SCTP here; and that it knows no such port.
fn hush(namespace: &Namespace) -> Result {
    for rule in [
        "add table ip hush",
        "add chain ip hush out { type filter hook output priority 0; }",
        "add rule ip hush out icmp type destination-unreachable icmp code prot-unreachable drop",
    ] {
        namespace.run("nft", &[rule])?;
    }
    Ok(())
}

struct Site {
    lab: Lab,
    captures: Vec<Process>,
    _servers: Vec<Process>,
}

impl Site {
    fn start(snat: &str) -> Result<Self> {
        ensure(Path::new(TSCTP).exists(), || {
            format!("{TSCTP} is missing: apt-get install libusrsctp-examples")
        })?;
        let lab = Lab::start(&Options::default())?;
        let log = |name: String| lab.directory().join(name);
        let mut captures = Vec::new();
        let mut servers = Vec::new();
        hush(&lab.client)?;
        for (n, backend) in lab.backends.iter().enumerate() {
            hush(backend)?;
            let args = ["-p", "5001"];
            servers.push(backend.spawn(Path::new(TSCTP), &args, log(format!("tsctp{n}.log")))?);
        }
        for (n, station) in std::iter::once(&lab.client)
            .chain(&lab.backends)
            .enumerate()
        {
            // Every SCTP packet with a wrong checksum, as it arrives or leaves.
            let args = [
                "-l",
                "-n",
                "-i",
                "eth0",
                "-o",
                "sctp.checksum:crc-32c",
                "-f",
                "sctp",
                "-T",
                "fields",
                "-e",
                "frame.number",
                "-e",
                "sctp.checksum.status",
            ];
            let capture = station.spawn("tshark".as_ref(), &args, log(format!("tshark{n}.log")))?;
            captures.push(capture);
        }
        for capture in &captures {
            eventually(Duration::from_secs(20), || {
                ensure(capture.output().contains("Capturing on"), || {
                    format!("tshark said: {}", capture.output())
                })
            })?;
        }
        lab.tmm.apply(&objects(snat, &[1, 2, 3], 300))?;
        eventually(Duration::from_secs(10), || {
            lab.client.run("ping", &["-c1", "-W1", VIP]).map(drop)
        })?;
        Ok(Self {
            lab,
            captures,
            _servers: servers,
        })
    }

    /// States of the associations in the table.
    fn states(&self) -> Result<Vec<String>> {
        let rows = self.lab.tmm.show("connections")?;
        let sctp = rows.iter().filter(|row| row["protocol"] == "sctp");
        Ok(sctp
            .map(|row| row["state"].as_str().unwrap_or("?").to_owned())
            .collect())
    }

    /// Every packet that anybody saw had a right checksum; how many they were.
    fn checksums(&mut self) -> Result<usize> {
        let mut seen = 0;
        for capture in &mut self.captures {
            capture.stop()?;
            for line in capture.output().lines() {
                let Some((number, status)) = line.split_once('\t') else {
                    continue;
                };
                // 1 is good in tshark's account.
                ensure(status == "1", || {
                    format!("packet {number}: status {status}")
                })?;
                seen += 1;
            }
        }
        Ok(seen)
    }

    fn drops(&self) -> Result<Vec<Value>> {
        let rows = self.lab.tmm.show("drops")?;
        let about = |row: &Value| {
            let reason = row["reason"].as_str().unwrap_or("");
            reason.starts_with("sctp_") || reason == "bad_transport_checksum"
        };
        Ok(rows
            .into_iter()
            .filter(|row| about(row) && row["packets"] != 0)
            .collect())
    }
}

/// One association carries messages for some seconds and ends as it should, while the configuration changes.
fn transfer(snat: &str) -> Result {
    let mut site = Site::start(snat)?;
    let log = site.lab.directory().join("client.log");
    let args = ["-p", NGAP, "-l", "1000", "-n", "0", "-T", "6", VIP];
    let mut client = site.lab.client.spawn(Path::new(TSCTP), &args, log)?;
    eventually(Duration::from_secs(5), || {
        let states = site.states()?;
        ensure(states == ["ESTABLISHED"], || {
            format!(
                "the association: {states:?}; the client said {}",
                client.output()
            )
        })
    })?;
    // Other members, another idle timeout, and back: the association stays where it is.
    for (members, idle) in [(&[1, 2, 3][..], 200), (&[1, 2, 3], 300)] {
        site.lab.tmm.apply(&objects(snat, members, idle))?;
        std::thread::sleep(Duration::from_millis(500));
        let states = site.states()?;
        ensure(states == ["ESTABLISHED"], || format!("{states:?}"))?;
    }
    let status = client.await_end(Duration::from_secs(30))?;
    ensure(status.success(), || {
        format!("the client ended with {status}: {}", client.output())
    })?;
    eventually(Duration::from_secs(10), || {
        let states = site.states()?;
        let over = states.iter().all(|state| state == "SHUTDOWN_COMPLETE");
        ensure(over, || format!("the association did not end: {states:?}"))
    })?;
    let seen = site.checksums()?;
    ensure(seen > 1000, || {
        format!("only {seen} packets were looked at")
    })?;
    let drops = site.drops()?;
    ensure(drops.is_empty(), || format!("tmm dropped {drops:?}"))?;
    let Site { lab, .. } = site;
    lab.finish()
}

// case LOX-001: SCTP through a load balancer, with the client's own address
#[test]
fn an_association_carries_data_through_an_ngap_resource() -> Result {
    transfer("SRC_TRANS_NONE")
}

// case OVS-031: with real stacks: ports change, and every CRC32c that anybody sees is right
#[test]
fn an_association_carries_data_with_automap() -> Result {
    transfer("SRC_TRANS_AUTOMAP")
}
