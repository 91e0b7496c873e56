//! What the figures were taken on.

use std::fmt::Write as _;
use std::process::Command;

use serde::Serialize;

/// What the figures were taken on.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    /// The processor, as the kernel names it.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// Sizes of the caches.
    pub caches: String,
    /// Whether it is a guest.
    pub hypervisor: bool,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Free pages of 2 MiB in the kernel's pool at the start.
    pub huge_pages: u64,
    /// What the kernel does about transparent huge pages.
    pub transparent_huge_pages: String,
    /// Release of the kernel.
    pub kernel: String,
    /// What the kernel was told at the start.
    pub isolated: String,
    /// Version of DPDK.
    pub dpdk: String,
    /// Version of the compiler.
    pub rustc: String,
    /// The commit, and whether there were changes on top.
    pub commit: String,
    /// Processes that wanted a CPU in the minute before.
    pub load: String,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let meminfo = read("/proc/meminfo");
        let memory = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            cpu: format!(
                "{} (family {}, model {})",
                field("model name"),
                field("cpu family"),
                field("model")
            ),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            caches: caches(),
            hypervisor: field("flags")
                .split_whitespace()
                .any(|flag| flag == "hypervisor"),
            memory_mib: memory.unwrap_or(0) >> 10,
            huge_pages: read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
                .trim()
                .parse()
                .unwrap_or(0),
            transparent_huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled")
                .trim()
                .to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            isolated: read("/sys/devices/system/cpu/isolated").trim().to_owned(),
            dpdk: dpdk::version(),
            rustc: said("rustc", &["--version"]),
            commit: commit(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("?")
                .to_owned(),
        }
    }

    /// As a table.
    pub(super) fn write(&self, out: &mut String) {
        let guest = if self.hypervisor {
            ", a virtual machine"
        } else {
            ""
        };
        let isolated = if self.isolated.is_empty() {
            "none"
        } else {
            &self.isolated
        };
        let rows = [
            ("CPU", format!("{} × {}{guest}", self.cpus, self.cpu)),
            ("caches", self.caches.clone()),
            ("isolated CPUs", isolated.to_owned()),
            ("memory", format!("{} MiB", self.memory_mib)),
            (
                "huge pages",
                format!(
                    "{} of 2 MiB free; transparent: {}",
                    self.huge_pages, self.transparent_huge_pages
                ),
            ),
            ("kernel", self.kernel.clone()),
            ("DPDK", self.dpdk.clone()),
            ("compiler", self.rustc.clone()),
            ("commit", self.commit.clone()),
            ("load before", self.load.clone()),
        ];
        out.push_str("| | |\n|---|---|\n");
        for (name, value) in rows {
            let _ = writeln!(out, "| {name} | {value} |");
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn said(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    if commit.is_empty() {
        return "unknown".to_owned();
    }
    if said("git", &["status", "--porcelain"]).is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    }
}

/// Sizes of the first CPU's caches: `L1d 48K, L2 1024K, L3 32768K`.
fn caches() -> String {
    let mut all = Vec::new();
    for index in 0..8 {
        let at = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let level = read(&format!("{at}/level"));
        if level.is_empty() {
            break;
        }
        let kind = match read(&format!("{at}/type")).trim() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        let size = read(&format!("{at}/size"));
        all.push(format!("L{}{kind} {}", level.trim(), size.trim()));
    }
    all.join(", ")
}
