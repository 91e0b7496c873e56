//! TCP through tmm with the kernel's own stack at both ends: attacks from outside the window, half-closed
//! connections that last, resets when a connection was silent for too long, and segments that fit.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::lab::resources::{HTTP, IPERF, VIP};
use tests::lab::{Failure, Lab, Options, Process, Result, ensure, eventually, resources, url};

/// A server that plays one of three parts with each connection, in the order they come: it is given which.
const SERVER: &str = r#"
import socket, sys, threading, time
part = sys.argv[1]
def serve(s):
    try:
        if part == "half-close":
            got = b""
            while chunk := s.recv(4096):
                got += chunk
            for n in range(8):
                s.sendall(b"%d " % n + got)
                time.sleep(0.5)
        elif part == "wait":
            s.sendall(s.recv(10))
            s.recv(10)
            print("closed", flush=True)
        elif part == "mss":
            s.sendall(b"%d\n" % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
            left = 1 << 20
            while left:
                left -= len(s.recv(min(left, 65536)))
            s.sendall(b"x" * (1 << 20))
    except ConnectionResetError:
        print("reset", flush=True)
    finally:
        s.close()
l = socket.create_server(("::", 5201), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
"#;

/// tmm with one backend that runs [`SERVER`], reached at port 5201.
fn lab_with(part: &str, change: impl FnOnce(&mut [Value])) -> Result<(Lab, Process)> {
    let lab = Lab::start(&Options::default())?;
    let mut objects = resources::everything(false, None, "SRC_TRANS_NONE");
    for slice in &mut objects[3..5] {
        for endpoint in 1..3 {
            slice["endpoints"][endpoint]["conditions"]["ready"] = false.into();
        }
    }
    change(&mut objects);
    lab.tmm.apply(&objects)?;
    lab.await_virtual_servers(VIP)?;
    let log = lab.directory().join("server.log");
    let server = lab.backends[0].spawn("python3".as_ref(), &["-c", SERVER, part], log)?;
    eventually(Duration::from_secs(10), || {
        ensure(server.output().contains("ready"), || server.output())
    })?;
    Ok((lab, server))
}

fn dropped(lab: &Lab, reason: &str) -> Result<u64> {
    let drops = lab.tmm.show("drops")?;
    let row = drops.iter().find(|row| row["reason"] == reason);
    Ok(row.and_then(|row| row["packets"].as_u64()).unwrap_or(0))
}

#[test]
fn segments_from_outside_the_window_do_not_touch_a_connection() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    let page = url(VIP[0], "/drip/60/100");
    thread::scope(|scope| {
        let drip = scope.spawn(|| lab.curl(&["--max-time", "60", "--local-port", "45001", &page]));
        eventually(Duration::from_secs(5), || {
            let open = lab.tmm.show("connections")?;
            let live = open.iter().any(|row| row["state"] == "ESTABLISHED");
            ensure(live, || format!("the connections are {open:?}"))
        })?;
        // RST, FIN, SYN and data with the right addresses and ports, and numbers that are guessed.
        for flags in ["-R", "-FA", "-S", "-PA"] {
            for guess in ["1", "1500000000", "3000000000"] {
                let attack = format!(
                    "hping3 -q -c 5 -i u2000 -s 45001 -k -p {HTTP} {flags} -M {guess} -L {guess} {} 2>&1 || true",
                    VIP[0]
                );
                lab.shell(&attack)?;
            }
        }
        lab.shell(&format!(
            "nping --tcp -c 5 --rate 100 -g 45001 -p {HTTP} --flags rst --seq 77777777 {} 2>&1",
            VIP[0]
        ))?;
        let text = drip
            .join()
            .map_err(|_| Failure::new("the client panicked"))??;
        ensure(text.lines().count() == 60, || {
            format!("the connection was cut:\n{text}")
        })
    })?;
    let refused = dropped(&lab, "tcp_out_of_window")?;
    ensure(refused >= 20, || {
        format!("{refused} segments were out of their window")
    })?;
    lab.finish()
}

// case PKD-001: one side shuts down and goes on receiving, between stacks that are real.
#[test]
fn a_connection_that_one_side_has_closed_goes_on_the_other_way() -> Result {
    // Silence of more than a second ends what both sides have closed, not this.
    let (lab, _server) = lab_with("half-close", |objects| {
        objects[6]["spec"]["tcpCloseTimeout"] = 1.into();
        objects[6]["spec"]["tcpHalfCloseTimeout"] = 3.into();
    })?;
    for address in VIP {
        let script = format!(
            "import socket
s = socket.create_connection(('{address}', {IPERF}))
s.sendall(b'hello')
s.shutdown(socket.SHUT_WR)
got = b''
while chunk := s.recv(4096):
    got += chunk
print(got.count(b'hello'))"
        );
        let got = lab.client.run("python3", &["-c", &script])?.text();
        ensure(got == "8", || format!("{got} of 8 parts came to {address}"))?;
    }
    lab.finish()
}

#[test]
fn both_ends_are_told_when_a_connection_was_silent_for_too_long() -> Result {
    let (lab, server) = lab_with("wait", |objects| {
        objects[6]["spec"]["idleTimeout"] = 2.into();
        objects[6]["spec"]["resetOnTimeout"] = true.into();
    })?;
    for (number, address) in VIP.into_iter().enumerate() {
        let script = format!(
            "import socket
s = socket.create_connection(('{address}', {IPERF}))
s.settimeout(15)
s.sendall(b'hello')
assert s.recv(10) == b'hello'
try:
    print('got', s.recv(10))
except ConnectionResetError:
    print('reset')"
        );
        let got = lab.client.run("python3", &["-c", &script])?.text();
        ensure(got == "reset", || format!("the client saw {got:?}"))?;
        eventually(Duration::from_secs(5), || {
            let seen = server.output().matches("reset").count();
            ensure(seen == number + 1, || {
                format!("the server saw {}", server.output())
            })
        })?;
    }
    lab.finish()
}

// case VPPN-026: the MSS is clamped to the VLAN's MTU, as both kernels see it.
#[test]
fn segments_fit_the_mtu_of_a_vlan_that_clamps_the_mss() -> Result {
    let (lab, _server) = lab_with("mss", |objects| {
        objects[1]["spec"]["mss_clamp"] = true.into();
    })?;
    // Both ends believe in large packets; tmm's VLANs take 1500 octets.
    lab.client.ip(&["link", "set", "eth0", "mtu", "9000"])?;
    lab.backends[0].ip(&["link", "set", "eth0", "mtu", "9000"])?;
    for (address, mss) in [(VIP[0], 1500 - 40), (VIP[1], 1500 - 60)] {
        let script = format!(
            "import socket
s = socket.create_connection(('{address}', {IPERF}))
s.settimeout(15)
f = s.makefile('rb')
theirs = int(f.readline())
ours = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
s.sendall(b'x' * (1 << 20))
print(theirs, ours, len(f.read(1 << 20)))"
        );
        let got = lab.client.run("python3", &["-c", &script])?.text();
        // Each segment carries a timestamp of 12 octets, which the kernel takes off.
        let want = format!("{0} {0} {1}", mss - 12, 1 << 20);
        ensure(got == want, || format!("{got}, not {want}, to {address}"))?;
    }
    lab.finish()
}
