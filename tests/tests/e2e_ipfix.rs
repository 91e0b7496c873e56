//! Records of real flows, as a real collector (nfcapd) and another reader (tshark) understand them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{BACKEND_HTTP, CLIENT, HTTP, INTERNAL_SELF, VIP};
use tests::lab::{Failure, Lab, Options, Process, Result, ensure, eventually, url};

/// Octets of each page.
const PAGE: u64 = 300_000;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tmm-e2e-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("flows"))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The collector, and what goes to it as it is on the wire.
struct Collector {
    directory: Directory,
    nfcapd: Process,
    tcpdump: Process,
}

impl Collector {
    fn start(lab: &Lab, name: &str) -> Result<Self> {
        let directory = Directory::new(name)?;
        let here = lab.tmm_namespace();
        let log = directory.0.join("tcpdump.log");
        let capture = directory.path("wire.pcap");
        let args = [
            "-i",
            "lo",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
            &capture,
            "udp port 9995",
        ];
        let tcpdump = here.spawn(Path::new("tcpdump"), &args, log)?;
        eventually(Duration::from_secs(10), || {
            let said = tcpdump.output();
            ensure(said.contains("listening on"), || said)
        })?;
        let (flows, log) = (directory.path("flows"), directory.0.join("nfcapd.log"));
        let args = ["-w", &flows, "-b", "127.0.0.1", "-p", "9995", "-t", "3600"];
        let nfcapd = here.spawn(Path::new("nfcapd"), &args, log)?;
        Ok(Self {
            directory,
            nfcapd,
            tcpdump,
        })
    }

    /// Stops it; gives what nfdump reads in its files.
    fn records(&mut self) -> Result<Vec<Value>> {
        self.nfcapd.stop()?;
        self.tcpdump.stop()?;
        let output = std::process::Command::new("nfdump")
            .args(["-R", &self.directory.path("flows"), "-N", "-o", "json"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(output.status.success(), || {
            format!("nfdump: {text}{}", String::from_utf8_lossy(&output.stderr))
        })?;
        let start = text.find('[').unwrap_or(0);
        serde_json::from_str(&text[start..]).map_err(|error| {
            let said = self.nfcapd.output();
            Failure::new(format!(
                "nfdump printed no JSON: {error}\n{text}\nnfcapd: {said}"
            ))
        })
    }

    /// What tshark says of the messages, in these fields, a line for each.
    fn dissected(&self, fields: &[&str]) -> Result<String> {
        let mut args = vec![
            "-r".to_owned(),
            self.directory.path("wire.pcap"),
            "-d".to_owned(),
            "udp.port==9995,cflow".to_owned(),
            "-T".to_owned(),
            "fields".to_owned(),
        ];
        for field in fields {
            args.extend(["-e".to_owned(), (*field).to_owned()]);
        }
        let output = std::process::Command::new("tshark").args(&args).output()?;
        ensure(output.status.success(), || {
            String::from_utf8_lossy(&output.stderr).into_owned()
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn options() -> Options {
    Options {
        tmm: vec![
            "--ipfix=127.0.0.1:9995".to_owned(),
            "--ipfix-domain=42".to_owned(),
            "--ipfix-template-refresh=5".to_owned(),
        ],
        ..Options::default()
    }
}

#[test]
fn a_real_collector_gets_each_flow_with_its_translation_and_all_that_passed() -> Result {
    let lab = Lab::with_everything(&options(), "SRC_TRANS_AUTOMAP")?;
    // It comes late: until then, records are lost and counted, and then templates are repeated.
    let mut collector = Collector::start(&lab, "ipfix")?;
    std::thread::sleep(Duration::from_secs(6));
    for address in VIP {
        for _ in 0..3 {
            lab.curl(&["-o", "/dev/null", &url(address, &format!("/bytes/{PAGE}"))])?;
        }
    }
    let shown = lab.tmm.show("connections")?;
    let exported = lab.tmm.show("export")?;
    ensure(
        exported.iter().any(|row| row["counter"] == "messages"),
        || format!("{exported:?}"),
    )?;
    // What is open when it stops is told of too.
    let records = lab.finish_then(|| collector.records())?;
    let big = |row: &&Value| row["replyBytes"].as_u64() > Some(PAGE);
    let shown: Vec<&Value> = shown.iter().filter(big).collect();
    ensure(shown.len() == 6, || {
        format!("{} of 6 flows: {shown:?}", shown.len())
    })?;
    println!("{}", records.first().unwrap_or(&Value::Null));
    for row in shown {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (client, member) = (text("client"), text("member"));
        let port = client.rsplit(':').next().unwrap_or_default().to_owned();
        let of_flow = records.iter().find(|record| {
            record["src_port"].as_u64() == port.parse().ok()
                && record["in_packets"].as_u64() == row["originalPackets"].as_u64()
        });
        let record = of_flow.ok_or_else(|| Failure::new(format!("{row} is not in {records:?}")))?;
        let (family, v) = if client.starts_with('[') {
            (1, "6")
        } else {
            (0, "4")
        };
        let expected = [
            (format!("src{v}_addr"), CLIENT[family]),
            (format!("dst{v}_addr"), VIP[family]),
            // This nfdump does not know the elements of translated IPv6 addresses.
            ("src4_xlt_ip".to_owned(), INTERNAL_SELF[0]),
        ];
        let known = if family == 0 { 3 } else { 2 };
        for (key, value) in expected.into_iter().take(known) {
            ensure(record[&key] == value, || {
                format!("{key} is not {value}: {record}")
            })?;
        }
        let translated = record["dst4_xlt_ip"].as_str().unwrap_or_default();
        let to_member = family == 1 || (member.contains(translated) && !translated.is_empty());
        ensure(to_member, || format!("the member {member}: {record}"))?;
        for (key, value) in [
            ("dst_port", u64::from(HTTP)),
            ("dst_xlt_port", u64::from(BACKEND_HTTP)),
            ("proto", 6),
            ("in_bytes", row["originalBytes"].as_u64().unwrap_or(0)),
            ("out_packets", row["replyPackets"].as_u64().unwrap_or(0)),
            ("out_bytes", row["replyBytes"].as_u64().unwrap_or(0)),
        ] {
            // nfdump writes some numbers as texts.
            let told = record[key].to_string();
            ensure(told.trim_matches('"') == value.to_string(), || {
                format!("{key} is not {value}: {record}")
            })?;
        }
        // A page and its headers: between 0.1 and 10 % more than the page.
        let octets = record["out_bytes"].as_u64().unwrap_or(0);
        ensure(
            (PAGE + PAGE / 1000..PAGE + PAGE / 10).contains(&octets),
            || format!("{octets} octets for a page of {PAGE}"),
        )?;
    }
    let messages = collector.dissected(&[
        "cflow.version",
        "cflow.od_id",
        "_ws.expert.message",
        "_ws.malformed",
    ])?;
    let strange: Vec<&str> = messages
        .lines()
        // Which the ports and the TTL look like to it.
        .map(|line| line.split("\tPossible traceroute").next().unwrap_or(line))
        .filter(|line| line.trim_end() != "10\t42")
        .collect();
    ensure(messages.lines().count() > 3 && strange.is_empty(), || {
        format!("tshark finds fault with {strange:?}")
    })?;
    let translated = collector.dissected(&["cflow.post_nat_source_ipv6_address"])?;
    ensure(translated.contains(INTERNAL_SELF[1]), || translated)?;
    let events = collector.dissected(&["cflow.nat_event"])?;
    ensure(events.contains('4') && events.contains('5'), || {
        format!("no creation or deletion of a translation: {events}")
    })
}

#[test]
fn without_a_collector_everything_goes_on_and_the_loss_is_counted() -> Result {
    let lab = Lab::with_everything(&options(), "SRC_TRANS_NONE")?;
    for _ in 0..5 {
        lab.get(&url(VIP[0], "/"))?;
    }
    let count = |name: &str| -> Result<u64> {
        let rows = lab.tmm.show("export")?;
        let row = rows.iter().find(|row| row["counter"] == name);
        Ok(row.and_then(|row| row["count"].as_u64()).unwrap_or(0))
    };
    eventually(Duration::from_secs(5), || {
        let seen = (count("unsent")?, count("lost")?, count("records")?);
        ensure(seen.0 > 0 && seen.1 == 0 && seen.2 > 5, || {
            format!("unsent, lost, records: {seen:?}")
        })
    })?;
    // Who does not listen is not sent templates over and over.
    let before = count("templates")?;
    std::thread::sleep(Duration::from_secs(2));
    let more = count("templates")? - before;
    ensure(more < 50, || format!("{more} templates in two seconds"))?;
    let warned = lab.tmm.process.output();
    ensure(
        warned.contains("IPFIX collector does not take them"),
        || warned,
    )?;
    lab.finish()
}
