//! Which CPUs the workers and the control thread run on.
//!
//! A worker that polls wants a CPU of its own. Which ones it may have is what the kernel allows this
//! process: in a container, its cpuset. If the operator names CPUs (`--cpus`, `PAL_CPU_SET`), workers take
//! these in their order, and no others. If not, and the process has been given a part of the machine's CPUs, they
//! are taken for its own, as a Guaranteed pod's are: each worker is bound to one. On a whole machine, which
//! is shared with everybody, the kernel chooses.

use std::fs;
use std::path::Path;

use dpdk::PortSpec;
use tracing::{info, warn};

use super::RunError;
use super::args::{CpuList, RunArgs};
use super::cgroup;
use crate::discover::Choice;

/// What there is to know of CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Those this process may run on, in order.
    pub allowed: Vec<usize>,
    /// Whether they are all there are.
    pub whole: bool,
    /// How many the quota of CPU time is worth, if there is one.
    quota: Option<usize>,
    /// By CPU that is allowed: the first of the CPUs that share its core.
    cores: Vec<(usize, usize)>,
    /// By CPU that is allowed: its NUMA node, where there are several.
    nodes: Vec<(usize, u16)>,
}

impl Machine {
    /// As it is. `root` is `/` but in tests.
    pub fn read(root: &Path, allowed: Vec<usize>) -> Self {
        let cpus = root.join("sys/devices/system/cpu");
        let list = |path: &Path| -> Option<Vec<usize>> {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().parse::<CpuList>().ok()?.0)
        };
        let online = list(&cpus.join("online")).unwrap_or_else(|| allowed.clone());
        let cores = allowed.iter().map(|cpu| {
            let siblings = list(&cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")));
            let first = siblings.and_then(|siblings| siblings.into_iter().min());
            (*cpu, first.unwrap_or(*cpu))
        });
        let mut nodes = Vec::new();
        for entry in fs::read_dir(root.join("sys/devices/system/node"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let node = name
                .to_str()
                .and_then(|name| name.strip_prefix("node")?.parse().ok());
            let Some((node, members)) = node.zip(list(&entry.path().join("cpulist"))) else {
                continue;
            };
            nodes.extend(members.into_iter().map(|cpu| (cpu, node)));
        }
        let several = nodes
            .iter()
            .any(|(_, node)| Some(*node) != nodes.first().map(|(_, node)| *node));
        if !several {
            nodes.clear();
        }
        Self {
            quota: cgroup::cpu_quota(root),
            whole: online.iter().all(|cpu| allowed.contains(cpu)),
            cores: cores.collect(),
            nodes,
            allowed,
        }
    }

    /// This machine, and what this thread may use of it.
    pub fn here() -> Result<Self, RunError> {
        let allowed = dpdk::allowed_cpus().map_err(|source| RunError::Io {
            what: "read which CPUs this process may run on",
            source,
        })?;
        Ok(Self::read(Path::new("/"), allowed))
    }

    fn core(&self, cpu: usize) -> usize {
        let found = self.cores.iter().find(|(one, _)| *one == cpu);
        found.map_or(cpu, |(_, core)| *core)
    }

    /// The NUMA node of a CPU, where there are several.
    pub fn node(&self, cpu: usize) -> Option<u16> {
        let found = self.nodes.iter().find(|(one, _)| *one == cpu);
        found.map(|(_, node)| *node)
    }

    /// Whether there are several NUMA nodes.
    pub fn has_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }
}

/// Where threads run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The CPU of each worker; `None` where the kernel chooses.
    pub workers: Vec<Option<usize>>,
    /// The CPUs of the control thread and DPDK's own; empty where the kernel chooses.
    pub control: Vec<usize>,
    /// What will be slow about it, for the log.
    pub warnings: Vec<String>,
    /// The NUMA nodes of the ports, where there are several.
    pub nodes: Vec<u16>,
}

/// CPUs as the kernel writes them: `0,2-4`.
pub fn written(cpus: &[usize]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let word = |(from, to): &(usize, usize)| {
        if from == to {
            from.to_string()
        } else {
            format!("{from}-{to}")
        }
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(",")
}

/// How many workers `--workers auto` means: one for each CPU of the list, or else for each the process has
/// been given, as CPUs or as a quota of their time.
pub fn auto_workers(machine: &Machine, list: Option<&CpuList>) -> u16 {
    let given = machine.allowed.len();
    let given = machine.quota.map_or(given, |quota| quota.min(given));
    let cpus = list.map_or(given, |list| list.0.len());
    u16::try_from(cpus)
        .unwrap_or(u16::MAX)
        .clamp(1, super::args::MOST_WORKERS)
}

/// Chooses the CPUs of `workers` workers; ports are on the nodes `ports`.
///
/// Errors: the list has CPUs that this process may not run on.
pub fn places(
    machine: &Machine,
    list: Option<&CpuList>,
    workers: u16,
    ports: &[u16],
) -> Result<Places, RunError> {
    let mut warnings = Vec::new();
    let chosen: Vec<usize> = match list {
        Some(list) => {
            let foreign: Vec<usize> = list
                .0
                .iter()
                .copied()
                .filter(|cpu| !machine.allowed.contains(cpu))
                .collect();
            if !foreign.is_empty() {
                return Err(RunError::Usage(format!(
                    "--cpus (PAL_CPU_SET) names CPUs {}, but this process may run on {} only, not on {}: name \
                     some of these, or give the container more CPUs",
                    written(&list.0),
                    written(&machine.allowed),
                    written(&foreign)
                )));
            }
            list.0.clone()
        }
        None if machine.whole => Vec::new(),
        None => preferred(machine, workers, ports),
    };
    let available = if chosen.is_empty() {
        machine.allowed.len()
    } else {
        chosen.len()
    };
    if available < usize::from(workers) {
        warnings.push(format!(
            "fewer CPUs ({available}) than workers ({workers}): workers that share one are slower than fewer \
             workers would be"
        ));
    }
    let mut round = chosen.iter().copied().cycle();
    let workers: Vec<Option<usize>> = (0..workers).map(|_| round.next()).collect();
    let taken: Vec<usize> = workers.iter().copied().flatten().collect();
    if taken.is_empty() {
        return Ok(Places {
            workers,
            control: Vec::new(),
            warnings,
            nodes: ports.to_vec(),
        });
    }
    for (at, cpu) in taken.iter().enumerate() {
        let twin = taken
            .iter()
            .take(at)
            .find(|other| **other != *cpu && machine.core(**other) == machine.core(*cpu));
        if let Some(twin) = twin {
            warnings.push(format!(
                "workers on CPUs {twin} and {cpu} share a core (hyper-threads): each has about half of it"
            ));
        }
        if let Some(node) = machine.node(*cpu)
            && let Some(port) = ports.first()
            && !ports.contains(&node)
        {
            warnings.push(format!(
                "CPU {cpu} of a worker is on NUMA node {node}, its ports are on node {port}: every frame crosses \
                 between them; --cpus (PAL_CPU_SET) of node {port} would not"
            ));
        }
    }
    let rest: Vec<usize> = machine
        .allowed
        .iter()
        .copied()
        .filter(|cpu| !taken.contains(cpu))
        .collect();
    let control = if rest.is_empty() { taken } else { rest };
    Ok(Places {
        workers,
        control,
        warnings,
        nodes: ports.to_vec(),
    })
}

/// The CPUs for workers, the best ones first: on a port's node, and each on a core of its own.
fn preferred(machine: &Machine, workers: u16, ports: &[u16]) -> Vec<usize> {
    let far = |cpu: usize| {
        machine
            .node(cpu)
            .is_some_and(|node| !ports.is_empty() && !ports.contains(&node))
    };
    let mut cpus: Vec<(bool, bool, usize)> = machine
        .allowed
        .iter()
        .map(|cpu| {
            let core = machine.core(*cpu);
            let first = machine
                .allowed
                .iter()
                .find(|other| machine.core(**other) == core);
            (far(*cpu), first != Some(cpu), *cpu)
        })
        .collect();
    cpus.sort_unstable();
    cpus.into_iter()
        .map(|(_, _, cpu)| cpu)
        .take(usize::from(workers))
        .collect()
}

/// The NUMA nodes of the ports, as far as the system tells.
pub fn port_nodes(root: &Path, specs: &[PortSpec]) -> Vec<u16> {
    let node = |spec: &PortSpec| -> Option<u16> {
        let device = match spec {
            PortSpec::Pci(address) => format!("sys/bus/pci/devices/{address}"),
            _ => format!("sys/class/net/{}/device", spec.netdev()?),
        };
        // -1 where there is none.
        fs::read_to_string(root.join(device).join("numa_node"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let mut nodes: Vec<u16> = specs.iter().filter_map(node).collect();
    nodes.dedup();
    nodes
}

/// The one node of all ports.
pub fn common_node(nodes: &[u16]) -> Option<u16> {
    let first = nodes.first().copied()?;
    nodes.iter().all(|node| *node == first).then_some(first)
}

/// Chooses, says so, and moves the calling thread, which is the control thread, out of the workers' way: the
/// threads that DPDK makes inherit that.
///
/// Errors: see [`places`].
pub fn settle(args: &RunArgs, choices: &[Choice], machine: &Machine) -> Result<Places, RunError> {
    let specs: Vec<PortSpec> = choices.iter().map(|choice| choice.spec.clone()).collect();
    let nodes = if machine.has_nodes() {
        port_nodes(Path::new("/"), &specs)
    } else {
        Vec::new()
    };
    let places = places(machine, args.cpus.as_ref(), args.workers, &nodes)?;
    for warning in &places.warnings {
        warn!("{warning}");
    }
    let taken: Vec<usize> = places.workers.iter().copied().flatten().collect();
    if taken.is_empty() {
        return Ok(places);
    }
    let shared = places.control.iter().any(|cpu| taken.contains(cpu));
    info!(
        workers = %written(&taken),
        control = %written(&places.control),
        allowed = %written(&machine.allowed),
        "{}",
        if shared {
            "CPUs: none is left for the control thread, which shares the workers'"
        } else {
            "CPUs: workers have theirs to themselves"
        }
    );
    dpdk::bind_to_cpus(&places.control)?;
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight CPUs, two threads for each core (n and n + 4), two nodes (even and odd cores).
    fn machine(allowed: &[usize]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: String| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "sys/devices/system/cpu/online".to_owned(),
            "0-7\n".to_owned(),
        );
        for cpu in 0..8 {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            write(path, format!("{},{}\n", cpu % 4, cpu % 4 + 4));
        }
        write(
            "sys/devices/system/node/node0/cpulist".to_owned(),
            "0,2,4,6\n".to_owned(),
        );
        write(
            "sys/devices/system/node/node1/cpulist".to_owned(),
            "1,3,5,7\n".to_owned(),
        );
        Machine::read(root.path(), allowed.to_vec())
    }

    fn list(cpus: &[usize]) -> CpuList {
        CpuList(cpus.to_vec())
    }

    #[test]
    fn cpus_outside_of_what_is_allowed_are_refused_with_both_lists() {
        let machine = machine(&[2, 3]);
        let refused = places(&machine, Some(&list(&[2, 5, 6])), 1, &[])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("names CPUs 2,5-6"), "{refused}");
        assert!(
            refused.contains("may run on 2-3 only, not on 5-6"),
            "{refused}"
        );
    }

    #[test]
    fn a_whole_machine_is_left_to_the_kernel() {
        let machine = machine(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(machine.whole);
        let places = places(&machine, None, 2, &[]).unwrap();
        assert_eq!((places.workers, places.control), (vec![None, None], vec![]));
    }

    #[test]
    fn a_part_of_a_machine_is_bound_to_and_the_rest_is_for_control() {
        let machine = machine(&[0, 2, 4]);
        assert!(!machine.whole);
        let found = places(&machine, None, 2, &[]).unwrap();
        assert_eq!(found.workers, [Some(0), Some(2)]);
        assert_eq!(found.control, [4]);
        assert_eq!(found.warnings, [] as [&str; 0]);
        // With as many workers as CPUs, a core is shared, and control has nowhere else to go.
        let found = places(&machine, None, 3, &[]).unwrap();
        assert_eq!(found.workers, [Some(0), Some(2), Some(4)]);
        assert_eq!(found.control, [0, 2, 4]);
        assert!(
            found.warnings[0].contains("CPUs 0 and 4 share a core"),
            "{:?}",
            found.warnings
        );
    }

    #[test]
    fn the_node_of_the_port_is_preferred_and_another_is_warned_of() {
        let machine = machine(&[0, 1, 2, 3]);
        let found = places(&machine, None, 2, &[1]).unwrap();
        assert_eq!(found.workers, [Some(1), Some(3)]);
        assert!(found.warnings.is_empty());
        let found = places(&machine, Some(&list(&[0])), 1, &[1]).unwrap();
        assert!(
            found.warnings[0].contains("on NUMA node 0, its ports are on node 1"),
            "{:?}",
            found.warnings
        );
    }

    #[test]
    fn workers_take_the_named_cpus_in_their_order_and_share_what_is_too_few() {
        let machine = machine(&[0, 1, 2, 3]);
        let found = places(&machine, Some(&list(&[3, 2])), 3, &[]).unwrap();
        assert_eq!(found.workers, [Some(3), Some(2), Some(3)]);
        assert_eq!(found.control, [0, 1]);
        assert!(
            found
                .warnings
                .iter()
                .any(|w| w.contains("fewer CPUs (2) than workers (3)"))
        );
    }

    #[test]
    fn automatic_workers_are_as_many_as_the_cpus_given() {
        let machine = machine(&[0, 1, 2]);
        assert_eq!(auto_workers(&machine, None), 3);
        assert_eq!(auto_workers(&machine, Some(&list(&[1]))), 1);
        assert_eq!(auto_workers(&Machine::default(), None), 1);
        let limited = Machine {
            quota: Some(2),
            ..machine
        };
        assert_eq!(auto_workers(&limited, None), 2);
        assert_eq!(auto_workers(&limited, Some(&list(&[0, 1, 2]))), 3);
    }

    #[test]
    fn cpus_are_written_as_the_kernel_does() {
        assert_eq!(written(&[4, 2, 3, 0]), "0,2-4");
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn the_nodes_of_ports_are_found_where_the_system_tells() {
        let root = tempfile::tempdir().unwrap();
        for (device, node) in [
            ("class/net/eth1/device", "1\n"),
            ("bus/pci/devices/0000:3b:02.0", "-1\n"),
        ] {
            let folder = root.path().join("sys").join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("numa_node"), node).unwrap();
        }
        let specs: Vec<PortSpec> = ["af_packet:eth1", "pci:0000:3b:02.0", "null"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(port_nodes(root.path(), &specs), [1]);
        assert_eq!(common_node(&[1]), Some(1));
        assert_eq!((common_node(&[0, 1]), common_node(&[])), (None, None));
    }
}
