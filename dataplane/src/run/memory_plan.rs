//! How much memory tmm will take, part by part: worked out, compared with what there is, and told,
//! before any of it is taken.
//!
//! The kernel lends memory to whoever asks and ends somebody when it has to be paid; in a container, that is
//! whoever is inside. So a start that could end like this is refused, with the sum. Huge pages are a pool of
//! their own: the packet memory takes them if all of it fits, and the flow tables if they fit as well; what
//! does not is ordinary memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dpdk::{HugePages, MempoolConfig, PortSpec};
use tracing::{info, warn};

use super::args::{Hugepages, RunArgs};
use super::{RunError, cgroup, handoff_octets, ports};
use crate::defences::Defences;
use crate::discover::Choice;
use crate::pipeline::{FlowData, mappings_octets};
use crate::trains;

/// Flows tracked where nothing says how many.
pub const USUAL_FLOWS: u32 = 262_144;
/// The most that can be asked for.
pub const MOST_FLOWS: u32 = 16_777_216;
/// What DPDK may need of huge pages beside the packet buffers, and what it uses of ordinary memory.
const EAL: u64 = 48 * MIB;
const EAL_ORDINARY: u64 = 8 * MIB;
/// The program itself, its libraries, the configuration and the control side.
const PROGRAM: u64 = 40 * MIB;
const MIB: u64 = 1 << 20;
const HUGE: u64 = 2 * MIB;

/// What there is, octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered {
    /// Free huge pages of 2 MiB that the control group lets this process have.
    pub huge: u64,
    /// Free huge pages of other sizes: for DPDK only.
    pub huge_other: u64,
    /// The limit of huge pages for this container, if there is one: what it was given.
    pub huge_given: Option<u64>,
    /// Memory that can be had.
    pub ordinary: u64,
    /// The container's limit, if that is what bounds it.
    pub limit: Option<u64>,
}

impl Offered {
    /// As it is now. `root` is `/` but in tests.
    pub fn read(root: &Path) -> Self {
        let (mut huge, mut huge_other) = (0, 0);
        for pool in fs::read_dir(root.join("sys/kernel/mm/hugepages"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = pool.file_name();
            let size = name
                .to_str()
                .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
            let Some(kib) = size.and_then(|size| size.parse::<u64>().ok()) else {
                continue;
            };
            let count = |file: &str| -> u64 {
                let text = fs::read_to_string(pool.path().join(file)).unwrap_or_default();
                text.trim().parse().unwrap_or(0)
            };
            // Some of those that are free are promised to somebody.
            let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
            let octets = free.saturating_mul(kib << 10);
            if kib << 10 == HUGE {
                huge = octets;
            } else {
                // A container that was given 2 MiB pages may have none of the others.
                let given = cgroup::huge_pages(root, kib).map_or(u64::MAX, |given| given.free);
                huge_other += octets.min(given);
            }
        }
        let given = cgroup::huge_pages(root, HUGE >> 10);
        if let Some(given) = given {
            huge = huge.min(given.free);
        }
        let available = fs::read_to_string(root.join("proc/meminfo"))
            .ok()
            .and_then(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("MemAvailable:"))?;
                Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
            });
        let available = available.unwrap_or(u64::MAX);
        let limit = cgroup::memory(root).filter(|limit| limit.free < available);
        Self {
            huge,
            huge_other,
            huge_given: given.map(|given| given.limit),
            ordinary: limit.map_or(available, |limit| limit.free),
            limit: limit.map(|limit| limit.limit),
        }
    }
}

/// What the plan is made for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The pool of packet buffers.
    pub pool: &'a MempoolConfig,
    /// Rings that ports share with the kernel, octets.
    pub rings: u64,
    /// Flows, by all workers together; `None` as many as is sensible.
    pub flows: Option<u32>,
    /// Workers.
    pub workers: u16,
    /// Whether huge pages are used.
    pub hugepages: Hugepages,
}

/// The parts, octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Flows, by all workers together.
    pub flows: u32,
    /// Packet buffers.
    pub packets: u64,
    /// Rings shared with the kernel.
    pub rings: u64,
    /// The flow tables, full of IPv4 flows.
    pub tables: u64,
    /// What is added if all flows are IPv6 and each has addresses of its own, every client is counted and
    /// every mapping is used.
    pub more: u64,
    /// What workers hand frames to each other by.
    pub handoff: u64,
    /// What is known of datagrams in fragments, if as many as can be are under way.
    pub fragments: u64,
    /// What is kept of flows until it is exported.
    pub records: u64,
    /// Packet memory comes from huge pages.
    pub packets_huge: bool,
    /// The flow tables do.
    pub tables_huge: bool,
}

impl Plan {
    /// Works it out.
    ///
    /// Errors: it does not fit; with every part, and what to lower.
    pub fn new(wanted: &Wanted, offered: &Offered) -> Result<Self, RunError> {
        let packets = wanted.pool.memory_bytes();
        let packet_huge = (packets + EAL).next_multiple_of(HUGE);
        let (all_huge, allowed) = (
            offered.huge + offered.huge_other,
            wanted.hugepages != Hugepages::Never,
        );
        let packets_huge =
            allowed && (packet_huge <= all_huge || wanted.hugepages == Hugepages::Required);
        let packets = if packets_huge {
            packets
        } else {
            wanted.pool.ordinary_bytes()
        };
        let left = if packets_huge {
            // DPDK takes the larger ones first.
            offered
                .huge
                .saturating_sub(packet_huge.saturating_sub(offered.huge_other))
        } else {
            offered.huge
        };
        let flows = wanted
            .flows
            .unwrap_or_else(|| fitting(wanted.workers, left, allowed, offered));
        let tables = tables(flows, wanted.workers, false);
        // Each array begins a page of its own.
        let tables_huge = allowed && tables + 4 * HUGE * u64::from(wanted.workers) <= left;
        let plan = Self {
            flows,
            packets,
            rings: wanted.rings,
            tables,
            more: more(flows, wanted.workers),
            handoff: handoff_octets(wanted.workers),
            fragments: (trains::OCTETS as u64) * u64::from(wanted.workers),
            records: 0,
            packets_huge,
            tables_huge,
        };
        if plan.ordinary() > offered.ordinary {
            return Err(RunError::Usage(plan.refusal(offered, wanted.workers)));
        }
        Ok(plan)
    }

    /// Adds what the export of flows takes.
    ///
    /// Errors: as [`new`](Self::new).
    fn add_records(
        &mut self,
        octets: u64,
        wanted: &Wanted,
        offered: &Offered,
    ) -> Result<(), RunError> {
        self.records = octets;
        if self.ordinary() > offered.ordinary {
            return Err(RunError::Usage(self.refusal(offered, wanted.workers)));
        }
        Ok(())
    }

    /// Ordinary memory, with IPv4 flows.
    fn ordinary(&self) -> u64 {
        let packets = if self.packets_huge { 0 } else { self.packets };
        let tables = if self.tables_huge { 0 } else { self.tables };
        let small = self.rings + self.handoff + self.fragments + self.records;
        packets + tables + small + EAL_ORDINARY + PROGRAM
    }

    /// Huge pages, with some to spare for DPDK.
    fn huge(&self) -> u64 {
        let packets = if self.packets_huge {
            self.packets + EAL
        } else {
            0
        };
        packets + if self.tables_huge { self.tables } else { 0 }
    }

    /// What is taken, of either kind, by the time the tables are full of IPv4 flows.
    pub fn sum(&self) -> u64 {
        let small = self.rings + self.handoff + self.fragments + self.records;
        self.packets + self.tables + small + EAL_ORDINARY + PROGRAM
    }

    /// How DPDK is to be started.
    pub const fn eal_hugepages(&self, asked: Hugepages) -> HugePages {
        match asked {
            Hugepages::Required => HugePages::Required,
            _ if self.packets_huge => HugePages::Auto,
            _ => HugePages::Never,
        }
    }

    /// What DPDK is to have, MiB.
    pub fn eal_mib(&self) -> u32 {
        u32::try_from(eal_mib(self.packets)).unwrap_or(u32::MAX)
    }

    /// One line for each part.
    fn parts(&self) -> String {
        let kind = |huge| if huge { "huge pages" } else { "ordinary" };
        let rows = [
            ("packet buffers", self.packets, kind(self.packets_huge)),
            ("rings shared with the kernel", self.rings, "ordinary"),
            ("flow tables", self.tables, kind(self.tables_huge)),
            ("rings between workers", self.handoff, "ordinary"),
            ("datagrams in fragments", self.fragments, "ordinary"),
            ("records of flows to be exported", self.records, "ordinary"),
            ("DPDK", EAL_ORDINARY, kind(self.packets_huge)),
            ("program, libraries, configuration", PROGRAM, "ordinary"),
        ];
        let mut text = String::new();
        for (name, octets, kind) in rows.iter().filter(|(_, octets, _)| *octets > 0) {
            let _ = writeln!(text, "  {:>7} MiB  {name} ({kind})", octets.div_ceil(MIB));
        }
        let _ = write!(text, "  {:>7} MiB  in all", self.sum().div_ceil(MIB));
        text
    }

    fn refusal(&self, offered: &Offered, workers: u16) -> String {
        let whose = match offered.limit {
            Some(limit) => format!("of the container's limit of {} MiB", limit / MIB),
            None => "of memory on this machine".to_owned(),
        };
        let others = self
            .ordinary()
            .saturating_sub(if self.tables_huge { 0 } else { self.tables });
        let fits = most_flows(workers, offered.ordinary.saturating_sub(others), self.flows);
        let advice = if !self.tables_huge && fits >= 1024 {
            format!("--flow-capacity {fits} would fit, as would a larger limit")
        } else {
            "raise the limit, or lower --flow-capacity, --mbufs, --descriptors or --workers"
                .to_owned()
        };
        format!(
            "not enough memory: {} MiB of ordinary memory are needed for {} flows and {} MiB {whose} are left: \
             {advice}. The parts:\n{}",
            self.ordinary().div_ceil(MIB),
            self.flows,
            offered.ordinary / MIB,
            self.parts()
        )
    }

    /// Tells it.
    pub fn tell(&self, offered: &Offered) {
        info!(
            flow_capacity = self.flows,
            hugepages_needed_mib = self.huge().div_ceil(MIB),
            hugepages_free_mib = (offered.huge + offered.huge_other) / MIB,
            ordinary_needed_mib = self.ordinary().div_ceil(MIB),
            ordinary_free_mib = offered.ordinary / MIB,
            limit_mib = offered.limit.map(|limit| limit / MIB),
            "memory plan, before any is taken:\n{}",
            self.parts()
        );
        if self.ordinary() + self.more > offered.ordinary {
            warn!(
                more_mib = self.more.div_ceil(MIB),
                left_mib = (offered.ordinary - self.ordinary()) / MIB,
                "memory is enough for flows, but not if most are IPv6, clients are counted or mappings are kept, \
                 which takes more: lower --flow-capacity or raise the memory limit if so"
            );
        }
    }
}

/// Tables of all workers, octets.
fn tables(flows: u32, workers: u16, v6: bool) -> u64 {
    let workers = u32::from(workers.max(1));
    let each = usize::try_from(flows.div_ceil(workers)).unwrap_or(usize::MAX);
    let octets = conntrack::Table::<FlowData>::octets(each, v6) as u64;
    octets.saturating_mul(u64::from(workers))
}

/// What is added to the tables only as it is used: IPv6 addresses, clients that are counted, mappings.
fn more(flows: u32, workers: u16) -> u64 {
    let wide = tables(flows, workers, true) - tables(flows, workers, false);
    let workers = u32::from(workers.max(1));
    let each = usize::try_from(flows.div_ceil(workers)).unwrap_or(usize::MAX);
    let mappings = (mappings_octets(each) as u64).saturating_mul(u64::from(workers));
    wide + Defences::octets(flows as usize) as u64 + mappings
}

/// The most flows, in thousands, whose tables fit into so many octets; fewer than `below`. A table grows
/// in steps, so it is tried.
fn most_flows(workers: u16, octets: u64, below: u32) -> u32 {
    let (mut fits, mut too_many) = (0, below / 1024 + 1);
    while too_many - fits > 1 {
        let middle = fits.midpoint(too_many);
        if tables(middle * 1024, workers, false) <= octets {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    fits * 1024
}

/// As many flows as is sensible. Where the container was given huge pages they are for this, and most
/// of what packets leave is used; an eighth stays for DPDK. IPv6 flows take some ordinary memory as
/// well, of which they may have half. Where huge pages are everybody's, or there are none, it is a
/// usual number.
fn fitting(workers: u16, huge_left: u64, allowed: bool, offered: &Offered) -> u32 {
    if !allowed || offered.huge_given.is_none_or(|given| given == 0) {
        return USUAL_FLOWS;
    }
    let per = |v6| tables(1 << 20, workers, v6) >> 20;
    let (v4, more) = (
        per(false).max(1) + 1,
        per(true).saturating_sub(per(false)).max(1),
    );
    let by_huge = (huge_left - huge_left / 8).saturating_sub(4 * HUGE * u64::from(workers)) / v4;
    let by_ordinary = offered.ordinary.saturating_sub(PROGRAM) / 2 / more;
    let flows = by_huge.min(by_ordinary) / 1024 * 1024;
    u32::try_from(flows)
        .unwrap_or(MOST_FLOWS)
        .clamp(USUAL_FLOWS, MOST_FLOWS)
}

/// What DPDK is to have for a pool of so many octets, MiB.
pub const fn eal_mib(packets: u64) -> u64 {
    (packets + EAL).div_ceil(MIB)
}

/// The plan for these arguments and ports on this machine, told.
///
/// Errors: it does not fit.
pub fn plan(args: &RunArgs, choices: &[Choice]) -> Result<Plan, RunError> {
    let specs: Vec<PortSpec> = choices.iter().flat_map(Choice::all).cloned().collect();
    let offered = Offered::read(Path::new("/"));
    let wanted = Wanted {
        pool: &ports::pool_config(args, &specs),
        rings: ports::rings(args, choices),
        flows: (args.flow_capacity != super::args::AUTO_FLOWS).then_some(args.flow_capacity),
        workers: args.workers,
        hugepages: args.hugepages,
    };
    let mut plan = Plan::new(&wanted, &offered)?;
    plan.add_records(
        args.ipfix.octets(args.workers, plan.flows),
        &wanted,
        &offered,
    )?;
    plan.tell(&offered);
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(huge: u64, ordinary: u64) -> Offered {
        Offered {
            huge: huge * MIB,
            ordinary: ordinary * MIB,
            ..Offered::default()
        }
    }

    fn plan_of(
        flows: Option<u32>,
        hugepages: Hugepages,
        offered: &Offered,
    ) -> Result<Plan, RunError> {
        let pool = MempoolConfig::new("test", 2047);
        let wanted = Wanted {
            pool: &pool,
            rings: 8 * MIB,
            flows,
            workers: 1,
            hugepages,
        };
        Plan::new(&wanted, offered)
    }

    #[test]
    fn a_million_flows_and_two_ports_take_at_most_256_mib() {
        let plan = plan_of(Some(1_000_000), Hugepages::Never, &offered(0, 300)).unwrap();
        assert!(plan.sum() <= 256 * MIB, "{plan:?}");
        assert!(plan.ordinary() == plan.sum());
    }

    #[test]
    fn a_buffer_of_ordinary_memory_takes_a_page() {
        let pool = MempoolConfig::new("test", 65_535);
        let packets = |hugepages, huge| {
            let wanted = Wanted {
                pool: &pool,
                rings: 0,
                flows: Some(1024),
                workers: 1,
                hugepages,
            };
            Plan::new(&wanted, &offered(huge, 1000)).unwrap().packets
        };
        assert!(packets(Hugepages::Never, 1000) >= 65_535 * 4096);
        assert_eq!(packets(Hugepages::Auto, 0), packets(Hugepages::Never, 0));
        assert_eq!(packets(Hugepages::Auto, 1000), pool.memory_bytes());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_sum_and_what_would() {
        for left in [100, 120, 150, 154, 170, 190] {
            refusal_is_right(left);
        }
    }

    fn refusal_is_right(left: u64) {
        let mut offered = offered(0, left);
        offered.limit = Some(200 * MIB);
        let refused = plan_of(Some(1_000_000), Hugepages::Auto, &offered)
            .unwrap_err()
            .to_string();
        for words in [
            "not enough memory",
            "limit of 200 MiB",
            &format!("{left} MiB"),
            "flow tables",
            "in all",
        ] {
            assert!(refused.contains(words), "no {words:?} in {refused}");
        }
        // What it proposes does fit.
        let flows = refused
            .split("--flow-capacity ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let flows: u32 = flows.parse().unwrap();
        assert!(
            flows > 100_000 && plan_of(Some(flows), Hugepages::Auto, &offered).is_ok(),
            "{flows}"
        );
        let more = plan_of(Some(flows + 1024), Hugepages::Auto, &offered);
        assert!(more.is_err(), "{flows} are not the most");
    }

    #[test]
    fn parts_take_huge_pages_if_they_fit_whole_packets_first() {
        let kinds = |huge| {
            let plan = plan_of(Some(1_000_000), Hugepages::Auto, &offered(huge, 1000)).unwrap();
            (plan.packets_huge, plan.tables_huge)
        };
        assert_eq!(kinds(0), (false, false));
        assert_eq!(kinds(64), (true, false));
        assert_eq!(kinds(256), (true, true));
        let never = plan_of(Some(1_000_000), Hugepages::Never, &offered(4096, 1000)).unwrap();
        assert!(!never.packets_huge && !never.tables_huge);
    }

    #[test]
    fn huge_pages_given_to_the_container_become_flows() {
        let given = |mib: u64, ordinary| {
            let mut offered = offered(mib, ordinary);
            offered.huge_given = Some(mib * MIB);
            plan_of(None, Hugepages::Auto, &offered).unwrap()
        };
        // What users of one CPU provision.
        let usual = given(1572, 2048);
        assert!(usual.tables_huge && usual.flows > 4_000_000, "{usual:?}");
        assert!(usual.huge() <= 1572 * MIB);
        assert!(given(1572, 512).flows < usual.flows);
        assert_eq!(given(0, 2048).flows, USUAL_FLOWS);
        // Those of a whole machine are not ours alone.
        let plan = plan_of(None, Hugepages::Auto, &offered(8192, 8192)).unwrap();
        assert_eq!(plan.flows, USUAL_FLOWS);
    }

    #[test]
    fn pages_of_a_size_that_the_container_was_not_given_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (size, free) in [("2048", "500\n"), ("1048576", "4\n")] {
            write(
                &format!("sys/kernel/mm/hugepages/hugepages-{size}kB/free_hugepages"),
                free,
            );
        }
        let huge = || {
            let offered = Offered::read(root.path());
            (offered.huge / MIB, offered.huge_other / MIB)
        };
        assert_eq!(huge(), (1000, 4096));
        write("proc/self/cgroup", "0::/\n");
        let mount = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        write("proc/self/mountinfo", mount);
        write("sys/fs/cgroup/hugetlb.2MB.max", "209715200\n");
        write("sys/fs/cgroup/hugetlb.1GB.max", "0\n");
        assert_eq!(huge(), (200, 0));
        write("sys/fs/cgroup/hugetlb.1GB.max", "2147483648\n");
        assert_eq!(huge(), (200, 2048));
    }

    #[test]
    fn pages_that_are_promised_to_others_are_not_free() {
        let root = tempfile::tempdir().unwrap();
        let pool = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&pool).unwrap();
        fs::write(pool.join("free_hugepages"), "100\n").unwrap();
        fs::write(pool.join("resv_hugepages"), "40\n").unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(
            root.path().join("proc/meminfo"),
            "MemTotal: 9 kB\nMemAvailable:   2048 kB\n",
        )
        .unwrap();
        let offered = Offered::read(root.path());
        assert_eq!((offered.huge, offered.ordinary), (120 * MIB, 2 * MIB));
        assert_eq!((offered.limit, offered.huge_given), (None, None));
    }
}
