//! Where tmm's threads run: workers on the CPUs they were given and on no others, everything else
//! beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::lab::{Namespace, Process, Result, Tmm, ensure, program};

/// What a tmm needs while it runs.
struct Scratch(PathBuf, Option<Namespace>);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.1.take());
        drop(fs::remove_dir_all(&self.0));
    }
}

fn start(more: &[&str]) -> Result<(Tmm, Scratch)> {
    let directory = std::env::temp_dir().join(format!("tmm-e2e-{}-cpus", std::process::id()));
    fs::create_dir_all(&directory)?;
    let inside = Namespace::new(0, "tmm", true)?;
    let args: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
    let tmm = Tmm::start(&inside, &["1.1=ring:loop".to_owned()], &args, &directory)?;
    Ok((tmm, Scratch(directory, Some(inside))))
}

/// The CPUs of each thread, by name.
fn threads(process: &Process) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", process.id()))? {
        let path = task?.path();
        let status = fs::read_to_string(path.join("status"))?;
        let cpus = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let name = fs::read_to_string(path.join("comm"))?.trim().to_owned();
        found.insert(name, cpus.unwrap_or_default().trim().to_owned());
    }
    Ok(found)
}

fn cpus_here() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn a_worker_takes_the_cpu_it_was_given_and_the_others_stay_off_it() -> Result {
    if cpus_here() < 2 {
        println!("not tested: there is but one CPU");
        return Ok(());
    }
    let (mut tmm, _scratch) = start(&["--cpus=1"])?;
    for (name, cpus) in threads(&tmm.process)? {
        let right = if name == "worker-0" {
            cpus == "1"
        } else {
            !cpus.split(',').any(|one| one == "1" || one.contains("-1")) && cpus.starts_with('0')
        };
        ensure(right, || format!("{name} may run on {cpus}"))?;
    }
    let rows = tmm.show("workers")?;
    ensure(rows[0]["cpu"] == 1 && rows[0]["numa"].is_u64(), || {
        format!("{rows:?}")
    })?;
    tmm.stop_cleanly()
}

#[test]
fn one_worker_for_each_cpu_is_what_auto_means() -> Result {
    let (mut tmm, _scratch) = start(&["--workers=auto"])?;
    let rows = tmm.show("workers")?;
    ensure(rows.len() == cpus_here(), || format!("{rows:?}"))?;
    // The whole machine is everybody's: nobody is bound.
    ensure(rows[0]["cpu"].is_null(), || format!("{rows:?}"))?;
    tmm.stop_cleanly()
}

#[test]
fn on_a_part_of_the_machine_workers_are_bound_to_it_unasked() -> Result {
    if cpus_here() < 2 {
        println!("not tested: there is but one CPU");
        return Ok(());
    }
    // As a cpuset would: what this thread starts inherits it.
    // SAFETY: an all-zero set is valid, and 0 is the calling thread.
    let narrowed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(1, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    ensure(narrowed == 0, || "cannot bind the test to CPU 1".to_owned())?;
    let (mut tmm, _scratch) = start(&["--workers=auto"])?;
    let rows = tmm.show("workers")?;
    ensure(rows.len() == 1 && rows[0]["cpu"] == 1, || {
        format!("{rows:?}")
    })?;
    let said = tmm.process.output();
    ensure(said.contains("none is left for the control thread"), || {
        said.clone()
    })?;
    tmm.stop_cleanly()
}

#[test]
fn a_cpu_that_is_not_ours_is_refused_with_both_lists() -> Result {
    let output = Command::new("timeout")
        .arg("10")
        .arg(program("tmm")?)
        .args([
            "run",
            "--port=1.1=null",
            "--config-socket=none",
            "--cpus=0,4000-4001",
        ])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let right = output.status.code() == Some(1)
        && said.contains("names CPUs 0,4000-4001")
        && said.contains("may run on 0")
        && said.contains("not on 4000-4001");
    ensure(right, || format!("{}: {said}", output.status))
}
