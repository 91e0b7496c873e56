//! Bulk through a virtual server: whole transfers arrive intact, whatever happens meanwhile.

use std::thread;
use std::time::Duration;

use tests::lab::resources::{IPERF, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, eventually, pattern, resources, url};

fn download(lab: &Lab, address: &str, len: u64) -> Result {
    let page = url(address, &format!("/bytes/{len}"));
    let got = lab.shell(&format!("curl -gsSf --max-time 100 {page} | sha256sum"))?;
    let want = pattern::sha256(len);
    ensure(got.starts_with(&want), || {
        format!("{len} bytes with hash {want} arrived as {got}")
    })
}

fn upload(lab: &Lab, address: &str, len: usize) -> Result {
    let file = lab.directory().join("upload");
    let mut bytes = vec![0; len];
    pattern::fill(0, &mut bytes);
    std::fs::write(&file, &bytes)?;
    let file = file.display().to_string();
    let got = lab.curl(&["--max-time", "100", "-T", &file, &url(address, "/upload")])?;
    let want = pattern::sha256(len as u64);
    ensure(got == want, || {
        format!("{len} bytes with hash {want} arrived as {got}")
    })
}

#[test]
fn a_hundred_mebibytes_arrive_intact_without_source_translation() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    for address in VIP {
        download(&lab, address, 100 << 20)?;
        upload(&lab, address, 20 << 20)?;
    }
    lab.ensure_no_resets()?;
    lab.finish()
}

// case LNX-014: through translation, every octet arrives as it was
#[test]
fn a_hundred_mebibytes_arrive_intact_with_automap() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    for address in VIP {
        download(&lab, address, 100 << 20)?;
        upload(&lab, address, 20 << 20)?;
    }
    lab.ensure_no_resets()?;
    lab.finish()
}

#[test]
fn a_transfer_survives_loss_duplication_and_reordering() -> Result {
    let impairment = ["--loss=0.5", "--duplicate=0.5", "--reorder=1", "--seed=7"];
    let options = Options {
        switch: impairment.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let lab = Lab::with_everything(&options, "SRC_TRANS_AUTOMAP")?;
    for address in VIP {
        download(&lab, address, 4 << 20)?;
        upload(&lab, address, 4 << 20)?;
    }
    // No word on resets here: a late copy of a segment may meet a socket that is gone.
    lab.finish()
}

#[test]
fn a_transfer_does_not_notice_configuration_changes() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_AUTOMAP")?;
    let changes = |done: &dyn Fn() -> bool| -> Result<u32> {
        let mut count = 0;
        while !done() {
            // Members come and go, a virtual server appears and disappears, a route is added.
            let ready = [
                [true, true, false],
                [true, false, true],
                [false, true, true],
                [true; 3],
            ];
            lab.tmm
                .apply(&resources::service(ready[count as usize % 4]))?;
            let more = [
                resources::virtual_server(
                    "more",
                    8081,
                    resources::ON_LINK_VIP,
                    "SRC_TRANS_NONE",
                    30,
                ),
                resources::static_route("more", "10.1.0.0", 16, "192.0.2.10"),
            ];
            if count % 2 == 0 {
                lab.tmm.apply(&more)?;
            } else {
                lab.tmm.delete(&more)?;
            }
            count += 1;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(count)
    };
    let count = thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            VIP.iter()
                .try_for_each(|address| download(&lab, address, 60 << 20))
        });
        let count = changes(&|| transfer.is_finished());
        transfer
            .join()
            .map_err(|_| Failure::new("the transfer panicked"))??;
        count
    })?;
    ensure(count >= 4, || {
        format!("only {count} changes happened during the transfers")
    })?;
    lab.ensure_no_resets()?;
    lab.finish()
}

#[test]
fn a_member_removed_in_the_middle_keeps_its_flows_and_gets_no_new_ones() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    thread::scope(|scope| {
        // Three connections, one to each backend by round robin, each busy for 3 s.
        let drips: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| lab.curl(&["--max-time", "30", &url(VIP[0], "/drip/60/50")])))
            .collect();
        eventually(Duration::from_secs(5), || {
            let open = lab.tmm.show("connections")?;
            let established = open
                .iter()
                .filter(|row| row["state"] == "ESTABLISHED")
                .count();
            ensure(established >= 3, || {
                format!("{established} of 3 connections are established")
            })
        })?;
        lab.tmm.apply(&resources::service([true, false, true]))?;
        for _ in 0..9 {
            for address in VIP {
                let answer = lab.get(&url(address, "/"))?;
                ensure(answer != "backend-2", || {
                    "a removed member got a new connection".to_owned()
                })?;
            }
        }
        let mut servers = Vec::new();
        for drip in drips {
            let text = drip
                .join()
                .map_err(|_| Failure::new("a client panicked"))??;
            ensure(text.lines().count() == 60, || {
                format!("a connection was cut:\n{text}")
            })?;
            servers.extend(text.split(' ').next().map(str::to_owned));
        }
        servers.sort();
        ensure(servers == ["backend-1", "backend-2", "backend-3"], || {
            format!("the connections went to {servers:?}")
        })
    })?;
    lab.ensure_no_resets()?;
    lab.finish()
}

#[test]
fn iperf3_runs_both_ways() -> Result {
    let lab = Lab::start(&Options::default())?;
    // iperf3 needs its control and data connections at the same server.
    let mut objects = resources::everything(false, None, "SRC_TRANS_NONE");
    for slice in &mut objects[3..5] {
        for endpoint in 1..3 {
            slice["endpoints"][endpoint]["conditions"]["ready"] = false.into();
        }
    }
    lab.tmm.apply(&objects)?;
    lab.await_virtual_servers(VIP)?;
    let _server = lab.backends[0].spawn(
        "iperf3".as_ref(),
        &["-s"],
        lab.directory().join("iperf3.log"),
    )?;
    for (address, more) in [(VIP[0], vec!["-t", "3"]), (VIP[1], vec!["-t", "3", "-R"])] {
        let port = IPERF.to_string();
        let args = [vec!["-J", "-c", address, "-p", &port], more].concat();
        let report = eventually(Duration::from_secs(3), || {
            let run = lab
                .client
                .try_run("iperf3", &args, Duration::from_secs(20))?;
            let report: serde_json::Value = serde_json::from_str(&run.text())?;
            ensure(report["error"].is_null(), || {
                format!("iperf3: {}", report["error"])
            })?;
            Ok(report)
        })?;
        let rate = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .unwrap_or(0.0);
        println!("iperf3 to {address}: {:.0} Mbit/s", rate / 1e6);
        // No benchmark: a floor that tells working from broken.
        ensure(rate > 20e6, || format!("only {rate} bit/s to {address}"))?;
    }
    lab.finish()
}
