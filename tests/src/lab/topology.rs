//! The wiring of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::netns::{PREFIX, host};
use super::{
    Failure, Finished, Namespace, Process, Result, Tmm, ensure, eventually, program, resources,
};

/// How tmm reaches the trunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Packet sockets on veth ends.
    #[default]
    AfPacket,
    /// XDP sockets on veth ends.
    AfXdp,
    /// TAP devices that tmm makes itself.
    Tap,
    /// Two tmm in a row with shared memory between them: the first has the client's trunk as 1.1
    /// and the memory as 1.2, the second the memory as 1.1 and the backends' trunk as 1.2.
    Memif,
}

/// What kind of lab to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How tmm reaches the trunks.
    pub driver: Driver,
    /// Both VLANs on one port instead of one each.
    pub one_arm: bool,
    /// Two ports of one queue for each VLAN, in one segment: 1.1 and 1.2 for the client's, 1.3 and 1.4 for the
    /// backends'. They are not promiscuous.
    pub pairs: bool,
    /// A service VLAN around both.
    pub outer: Option<u16>,
    /// The client's VLAN has no tag.
    pub untagged: bool,
    /// MTU of the client's and the backends' devices, octets; 1500 if it is 0.
    pub mtu: u16,
    /// More arguments for the switch, such as `--loss=1`.
    pub switch: Vec<String>,
    /// Queues of the shared memory of [`Driver::Memif`]; one if it is 0.
    pub queues: u16,
    /// More arguments for `tmm run`.
    pub tmm: Vec<String>,
}

/// A client, three backends, a switch, and tmm between them.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: first what runs, then where it runs.
    /// tmm under test.
    pub tmm: Tmm,
    /// The second tmm of [`Driver::Memif`].
    pub second: Option<Tmm>,
    servers: Vec<Process>,
    switch: Process,
    /// The client.
    pub client: Namespace,
    /// The backends 1, 2 and 3.
    pub backends: [Namespace; 3],
    wire: Namespace,
    inside: Namespace,
    directory: Directory,
    ports: Vec<String>,
    more: Vec<String>,
    passed: bool,
}

/// A temporary directory that goes with the lab.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

static LABS: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Builds the network and starts everything; tmm has no configuration yet.
    pub fn start(options: &Options) -> Result<Self> {
        let lab = LABS.fetch_add(1, Ordering::Relaxed);
        let directory =
            Directory(std::env::temp_dir().join(format!("{PREFIX}{}-{lab}", std::process::id())));
        fs::create_dir_all(&directory.0)?;
        let log = |name: &str| directory.0.join(name);

        let inside = Namespace::new(lab, "tmm", true)?;
        let wire = Namespace::new(lab, "wire", true)?;
        let client = Namespace::new(lab, "client", false)?;
        let backends = [
            Namespace::new(lab, "backend1", false)?,
            Namespace::new(lab, "backend2", false)?,
            Namespace::new(lab, "backend3", false)?,
        ];

        let trunks: &[u8] = match (options.one_arm, options.pairs) {
            (true, _) => &[1],
            (_, true) => &[1, 2, 3, 4],
            _ => &[1, 2],
        };
        let memory = directory.0.join("memif");
        let queues = options.queues.max(1);
        let memory = |role: &str| format!("memif:{},role={role},queues={queues}", memory.display());
        let ports: Vec<String> = if options.driver == Driver::Memif {
            vec![
                format!("1.1={}", device(options.driver, 1)),
                format!("1.2={}", memory("client")),
            ]
        } else {
            let port = |n: &u8| {
                if options.pairs {
                    return format!("1.{n}=net_af_packet{n},iface=trunk{n},qpairs=1");
                }
                format!("1.{n}={}", device(options.driver, *n))
            };
            trunks.iter().map(port).collect()
        };
        let start_tmm = || Tmm::start(&inside, &ports, &options.tmm, &directory.0);
        let start_switch = || -> Result<Process> {
            let mut process = {
                let args = switch_args(options, trunks, &inside, &wire, &client, &backends);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                wire.spawn(&program("vlan-switch")?, &args, log("switch.log"))?
            };
            process.await_ready()?;
            Ok(process)
        };
        let mut second = None;
        let (tmm, switch) = if options.driver == Driver::Tap {
            // The devices are tmm's: they exist once it runs.
            let tmm = start_tmm()?;
            (tmm, start_switch()?)
        } else {
            let mtu = if options.driver == Driver::AfXdp {
                XDP_MTU
            } else {
                TRUNK_MTU
            };
            for trunk in trunks {
                let (this, that) = (format!("trunk{trunk}"), format!("wire{trunk}"));
                link(&inside, &this, &wire, &that, mtu)?;
                if !options.pairs {
                    inside.ip(&["link", "set", &format!("trunk{trunk}"), "promisc", "on"])?;
                }
            }
            if options.driver == Driver::Memif {
                // The first is the client of the shared memory: it finds the server there.
                let ports = [
                    format!("1.1={}", memory("server")),
                    format!("1.2={}", device(options.driver, 2)),
                ];
                let directory = directory.0.join("second");
                fs::create_dir(&directory)?;
                second = Some(Tmm::start(&inside, &ports, &options.tmm, &directory)?);
            }
            let switch = start_switch()?;
            (start_tmm()?, switch)
        };

        address(&client, resources::CLIENT)?;
        client.ip(&[
            "route",
            "add",
            "203.0.113.0/24",
            "via",
            resources::EXTERNAL_SELF[0],
        ])?;
        client.ip(&[
            "route",
            "add",
            "2001:db8:ffff::/64",
            "via",
            resources::EXTERNAL_SELF[1],
        ])?;
        let mut servers = Vec::new();
        for (number, backend) in (1..).zip(&backends) {
            let [v4, v6] = resources::backend(number);
            address(backend, [&v4, &v6])?;
            for gateway in resources::INTERNAL_SELF {
                backend.ip(&["route", "add", "default", "via", gateway])?;
            }
            let name = format!("backend-{number}");
            let http = format!("--http=[::]:{}", resources::BACKEND_HTTP);
            let echo = format!("--udp=[::]:{}", resources::BACKEND_ECHO);
            let log = log(&format!("{name}.log"));
            servers.push(backend.spawn(
                &program("lab-server")?,
                &["--name", &name, &http, &echo],
                log,
            )?);
        }
        for server in &mut servers {
            server.await_ready()?;
        }
        Ok(Self {
            tmm,
            second,
            servers,
            switch,
            client,
            backends,
            wire,
            inside,
            directory,
            ports,
            more: options.tmm.clone(),
            passed: false,
        })
    }

    /// A lab whose tmm has been given VLANs, the Service and all virtual servers, and answers.
    pub fn with_everything(options: &Options, snat: &str) -> Result<Self> {
        let lab = Self::start(options)?;
        let mut objects = resources::everything(options.one_arm, options.outer, snat);
        if options.untagged
            && let Some(external) = objects[0]["spec"].as_object_mut()
        {
            external.remove("tag");
        }
        if options.pairs {
            for (object, pair) in objects.iter_mut().zip([["1.1", "1.2"], ["1.3", "1.4"]]) {
                object["spec"]["interfaces"] = pair.to_vec().into();
            }
        }
        lab.tmm.apply(&objects)?;
        lab.await_virtual_servers(resources::VIP)?;
        Ok(lab)
    }

    /// Waits until the virtual HTTP servers at both addresses answer.
    pub fn await_virtual_servers(&self, addresses: [&str; 2]) -> Result {
        for address in addresses {
            eventually(Duration::from_secs(10), || {
                self.get(&url(address, "/")).map(drop)
            })?;
        }
        Ok(())
    }

    /// What the client's curl prints for a page; it must be there within 5 s.
    pub fn get(&self, url: &str) -> Result<String> {
        self.curl(&["--max-time", "5", url])
    }

    /// Runs curl at the client, silent but for errors; bounded to 120 s.
    pub fn curl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-gsSf"];
        all.extend(args);
        self.client
            .try_run("curl", &all, Duration::from_mins(2))?
            .ok()
            .map(|finished| finished.text())
    }

    /// Runs a script with the client's shell, for pipes; bounded to 120 s.
    pub fn shell(&self, script: &str) -> Result<String> {
        let strict = format!("set -eu; {script}");
        self.client
            .try_run(
                "bash",
                &["-o", "pipefail", "-c", &strict],
                Duration::from_mins(2),
            )?
            .ok()
            .map(|f| f.text())
    }

    /// Runs `lab-client` and returns its report, whether everything was answered or not.
    pub fn lab_client(&self, args: &[&str]) -> Result<Value> {
        let finished: Finished =
            self.client
                .try_run(program("lab-client")?, args, Duration::from_mins(2))?;
        let text = finished.text();
        match serde_json::from_str(&text) {
            Ok(report) => Ok(report),
            Err(_) => finished.ok().and_then(|_| {
                ensure(false, || format!("lab-client printed {text}")).map(|()| Value::Null)
            }),
        }
    }

    /// Where tmm runs: what it sends by the kernel arrives here too.
    pub const fn tmm_namespace(&self) -> &Namespace {
        &self.inside
    }

    /// Kills tmm with no chance to clean up, and starts it anew with the same arguments.
    pub fn kill_and_restart_tmm(&mut self) -> Result {
        self.tmm.process.kill()?;
        self.tmm = Tmm::start(&self.inside, &self.ports, &self.more, &self.directory.0)?;
        Ok(())
    }

    /// Fails if tmm has reset anything, or if the client or a backend has had a connection reset or sent
    /// resets that are not of their own making.
    ///
    /// On a machine that is busy, a host sends its last FIN again before the acknowledgement of the first has
    /// come, and gets two. The first one closes the connection, the second one meets none and is
    /// answered with a reset (RFC 9293 section 3.10.7.1), as without tmm between them. So there
    /// may be as many as segments were sent again.
    pub fn ensure_no_resets(&self) -> Result {
        for station in std::iter::once(&self.client).chain(&self.backends) {
            let counters = station.run("cat", &["/proc/net/snmp"])?.text();
            let mut lines = counters.lines().filter(|line| line.starts_with("Tcp:"));
            let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
                return Err(Failure::new("/proc/net/snmp has no lines for TCP"));
            };
            let counter = |name: &str| {
                let mut pairs = names.split(' ').zip(values.split(' '));
                let value = pairs.find(|(found, _)| *found == name);
                let value = value.and_then(|(_, value)| value.parse::<u64>().ok());
                value.ok_or_else(|| Failure::new(format!("/proc/net/snmp does not tell {name}")))
            };
            let (ended, sent) = (counter("EstabResets")?, counter("OutRsts")?);
            let again = counter("RetransSegs")?;
            ensure(ended == 0 && sent <= again, || {
                format!(
                    "{}: {ended} connections were reset, {sent} resets sent after {again} \
                     retransmissions",
                    station.name()
                )
            })?;
        }
        for tmm in std::iter::once(&self.tmm).chain(&self.second) {
            for row in tmm.show("drops")? {
                let reset = row["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.starts_with("reset_"));
                ensure(
                    row["kind"] != "answer" || !reset || row["packets"] == 0,
                    || format!("tmm has reset connections: {row}"),
                )?;
            }
        }
        Ok(())
    }

    /// Where logs and sockets of this lab are.
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }
}

impl Lab {
    /// Takes the link of a trunk (1 or 2) away, or gives it back.
    pub fn set_trunk(&self, trunk: u8, up: bool) -> Result {
        let state = if up { "up" } else { "down" };
        self.wire
            .ip(&["link", "set", &format!("wire{trunk}"), state])
    }

    /// Ends a test that went well and in which tmm has ended.
    pub fn ended(mut self) -> Result {
        self.passed = true;
        Ok(())
    }

    /// Ends a test that went well: tmm must stop on SIGTERM at once, with exit status 0 and with
    /// every buffer back in its pool.
    ///
    /// A lab dropped without it prints what everyone saw.
    pub fn finish(self) -> Result {
        self.finish_then(|| Ok(()))
    }

    /// As [`finish`](Self::finish), and looks at what is left of it before the network goes.
    pub fn finish_then<T>(mut self, look: impl FnOnce() -> Result<T>) -> Result<T> {
        self.tmm.stop_cleanly()?;
        if let Some(second) = &mut self.second {
            second.stop_cleanly()?;
        }
        let seen = look()?;
        self.passed = true;
        Ok(seen)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.passed {
            return;
        }
        // A test has failed: say what everyone saw, for the namespaces are about to go.
        eprintln!("--- tmm said:\n{}", self.tmm.process.output());
        if let Some(second) = &self.second {
            eprintln!("--- the second tmm said:\n{}", second.process.output());
        }
        for table in [
            "ports",
            "neighbors",
            "virtual-servers",
            "connections",
            "drops",
        ] {
            match self.tmm.ctl(&["show", table], "") {
                Ok(text) => eprintln!(
                    "--- tmmctl show {table}:\n{}",
                    text.lines().take(40).collect::<Vec<_>>().join("\n")
                ),
                Err(failure) => eprintln!("--- tmmctl show {table}: {failure}"),
            }
        }
        drop(self.switch.stop());
        eprintln!("--- the switch said:\n{}", self.switch.output());
        for server in &self.servers {
            eprintln!("--- a backend said:\n{}", server.output());
        }
        for (name, namespace) in [("wire", &self.wire), ("tmm", &self.inside)] {
            let links = namespace
                .run("ip", &["-stats", "-brief", "link"])
                .map(|finished| finished.text());
            eprintln!("--- links of {name}:\n{}", links.unwrap_or_default());
        }
    }
}

/// The URL of a page of the virtual HTTP server at an IPv4 or IPv6 address.
pub fn url(address: &str, path: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]{path}")
    } else {
        format!("http://{address}{path}")
    }
}

/// Room for jumbo frames and two tags, so that tmm's settings are what counts.
pub const TRUNK_MTU: u16 = 9216;
/// What the kernel takes at most where XDP programs shall run: a frame must fit a page.
const XDP_MTU: u16 = 3000;

/// A veth pair, both ends up, with an MTU of `mtu` bytes.
pub fn link(here: &Namespace, this: &str, there: &Namespace, that: &str, mtu: u16) -> Result {
    let mtu = mtu.to_string();
    let pair = [
        "link",
        "add",
        this,
        "netns",
        here.name(),
        "mtu",
        &mtu,
        "type",
        "veth",
    ];
    let peer = ["peer", "name", that, "netns", there.name(), "mtu", &mtu];
    host("ip", &[&pair[..], &peer[..]].concat())?;
    here.ip(&["link", "set", this, "up"])?;
    there.ip(&["link", "set", that, "up"])
}

/// Gives `eth0` its addresses, usable at once.
pub fn address(namespace: &Namespace, [v4, v6]: [&str; 2]) -> Result {
    namespace.ip(&["address", "add", &format!("{v4}/24"), "dev", "eth0"])?;
    namespace.ip(&[
        "address",
        "add",
        &format!("{v6}/64"),
        "dev",
        "eth0",
        "nodad",
    ])
}

fn device(driver: Driver, trunk: u8) -> String {
    match driver {
        Driver::AfPacket | Driver::Memif => format!("af_packet:trunk{trunk}"),
        Driver::AfXdp => format!("af_xdp:trunk{trunk}"),
        Driver::Tap => format!("tap:trunk{trunk}"),
    }
}

fn switch_args(
    options: &Options,
    trunks: &[u8],
    inside: &Namespace,
    wire: &Namespace,
    client: &Namespace,
    backends: &[Namespace; 3],
) -> Vec<String> {
    let external = if options.untagged { 0 } else { 100 };
    let tag = |vlan: u16| {
        options
            .outer
            .map_or_else(|| vlan.to_string(), |outer| format!("{outer}.{vlan}"))
    };
    let outer = options
        .outer
        .map_or_else(String::new, |outer| format!(",outer={outer}"));
    let mtu = match options.mtu {
        0 => String::new(),
        mtu => format!(",mtu={mtu}"),
    };
    let mut args = options.switch.clone();
    for trunk in trunks {
        let vlans = match (options.one_arm, trunk) {
            (true, _) => format!("{}+{}", tag(external), tag(200)),
            (false, 1) => tag(external),
            (false, 2) if options.pairs => tag(external),
            (false, _) => tag(200),
        };
        let (place, name) = if options.driver == Driver::Tap {
            (inside, "trunk")
        } else {
            (wire, "wire")
        };
        args.push(format!(
            "--trunk=netns={},dev={name}{trunk},vlans={vlans}",
            place.name()
        ));
    }
    args.push(format!(
        "--access=netns={},dev=eth0,vlan={external}{outer},mac=02:00:00:00:01:10{mtu}",
        client.name()
    ));
    for (number, backend) in (1..).zip(backends) {
        args.push(format!(
            "--access=netns={},dev=eth0,vlan=200{outer},mac=02:00:00:00:02:1{number}{mtu}",
            backend.name()
        ));
    }
    args
}
