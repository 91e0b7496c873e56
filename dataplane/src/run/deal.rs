//! Which workers poll the queues of a port that has fewer than there are workers.
//!
//! A virtual function often has one queue, so several workers mean several functions in each VLAN, and
//! each worker should have one of each. Ports that belong together are dealt out among themselves:
//! those of the same VLANs where the configuration of the start tells, else those of the same physical
//! function or lower interface. The operator has the last word, with `--port-workers`.

use std::collections::BTreeMap;
use std::path::Path;

use config::Config;
use dpdk::PortSpec;
use net::PortId;

use super::args::PortWorker;
use super::lanes::Lanes;
use crate::tables::Tables;

/// What ports are dealt out with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kin {
    /// Those in the same VLANs.
    Vlans(Vec<String>),
    /// Those of the same parent device.
    Parent(String),
    /// Nobody.
    Alone(PortId),
}

impl Kin {
    /// Of a port, as the configuration says, or else its device.
    pub fn of(port: PortId, spec: &PortSpec, config: &Config) -> Self {
        let name = port.to_string();
        let vlans = config.vlans.iter();
        let mut vlans: Vec<String> = vlans
            .filter(|vlan| vlan.interfaces.contains(&name))
            .map(|vlan| vlan.name.clone())
            .collect();
        if !vlans.is_empty() {
            vlans.sort();
            return Self::Vlans(vlans);
        }
        parent(spec, Path::new("/sys")).map_or(Self::Alone(port), Self::Parent)
    }
}

/// The physical function of a virtual one, or the interface that a virtual one such as a macvlan is on.
fn parent(spec: &PortSpec, sys: &Path) -> Option<String> {
    let device = if let PortSpec::Pci(address) = spec {
        sys.join("bus/pci/devices").join(address.to_string())
    } else {
        let interface = sys.join("class/net").join(spec.netdev()?);
        let entries = std::fs::read_dir(&interface).ok()?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        // Several are those of a bond, which is no sibling of anything.
        let mut lower: Vec<String> = names.filter(|name| name.starts_with("lower_")).collect();
        if lower.len() == 1 {
            return lower.pop();
        }
        interface.join("device")
    };
    let function = std::fs::canonicalize(device.join("physfn")).ok()?;
    Some(function.file_name()?.to_string_lossy().into_owned())
}

/// Checks what the operator wants: `wanted` must name ports and workers that there are, each port once.
///
/// Errors: what to write instead.
pub fn check(wanted: &[PortWorker], ports: usize, workers: u16) -> Result<(), String> {
    for (at, PortWorker { port, worker }) in wanted.iter().enumerate() {
        if usize::from(port.0) >= ports {
            return Err(format!(
                "--port-workers {port}={worker}: there is no port {port}; give it with --port, or leave \
                 it out"
            ));
        }
        if *worker >= workers {
            let last = workers.saturating_sub(1);
            return Err(format!(
                "--port-workers {port}={worker}: workers are numbered 0 to {last}; give a higher \
                 --workers, or another worker"
            ));
        }
        if wanted.iter().take(at).any(|other| other.port == *port) {
            return Err(format!(
                "--port-workers names port {port} twice: name it once"
            ));
        }
    }
    Ok(())
}

/// Deals queues out to workers, port by port.
#[derive(Debug)]
pub struct Dealer {
    workers: u16,
    /// By worker, how many ports it polls that not all poll.
    all: Vec<u32>,
    /// The same, by kin.
    kin: BTreeMap<Kin, Vec<u32>>,
}

impl Dealer {
    /// Nothing is dealt out yet.
    pub fn new(workers: u16) -> Self {
        Self {
            workers,
            all: vec![0; usize::from(workers)],
            kin: BTreeMap::new(),
        }
    }

    /// The queues of the next port. Where there are too few, they go to those who have the fewest ports of
    /// the same kin, then the fewest at all; to `first` before them all, if the operator wants it.
    pub fn deal(&mut self, kin: Kin, rx_queues: u16, tx_queues: u16, first: Option<u16>) -> Lanes {
        let kin = self
            .kin
            .entry(kin)
            .or_insert_with(|| vec![0; self.all.len()]);
        let mut order: Vec<u16> = (0..self.workers).collect();
        let count = |counts: &[u32], worker: u16| counts.get(usize::from(worker)).copied();
        order.sort_by_key(|worker| {
            let own = (count(kin, *worker), count(&self.all, *worker));
            (first != Some(*worker), own, *worker)
        });
        if rx_queues < self.workers {
            for worker in order.iter().take(usize::from(rx_queues.max(1))) {
                for counts in [&mut *kin, &mut self.all] {
                    if let Some(count) = counts.get_mut(usize::from(*worker)) {
                        *count += 1;
                    }
                }
            }
        }
        Lanes::new(&order, rx_queues, tx_queues)
    }
}

/// The VLANs whose ports are polled by fewer workers than could be, with what to do about it.
pub fn lopsided(tables: &Tables, lanes: &[&Lanes], workers: u16) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for vlan in tables.vlans.iter().filter(|vlan| vlan.ports.len() > 1) {
        let polled: Vec<(PortId, &Lanes)> = vlan
            .ports
            .iter()
            .filter_map(|port| Some((*port, *lanes.get(usize::from(port.0))?)))
            .collect();
        let polls = |worker: usize| {
            let mut all = polled.iter();
            all.any(|(_, lanes)| lanes.rx.get(worker).is_some_and(Option::is_some))
        };
        let busy = (0..usize::from(workers))
            .filter(|worker| polls(*worker))
            .count();
        let queues: usize = polled
            .iter()
            .map(|(_, lanes)| lanes.rx.iter().flatten().count())
            .sum();
        if busy < queues.min(usize::from(workers)) {
            let turns = polled.iter().zip((0..workers).cycle());
            let each: Vec<String> = turns
                .map(|((port, _), worker)| format!("{port}={worker}"))
                .collect();
            found.insert(vlan.name.clone(), each.join(","));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Rig, RigConfig};

    /// The worker that polls each port of one queue.
    fn dealt(workers: u16, ports: &[Kin]) -> Vec<usize> {
        let mut dealer = Dealer::new(workers);
        let lanes = ports.iter().map(|kin| dealer.deal(kin.clone(), 1, 1, None));
        lanes
            .map(|lanes| lanes.rx.iter().position(Option::is_some).unwrap())
            .collect()
    }

    fn vlan(name: &str) -> Kin {
        Kin::Vlans(vec![name.to_owned()])
    }

    #[test]
    fn each_worker_has_a_port_of_each_vlan_in_whatever_order_they_come() {
        let (a, b) = (vlan("external"), vlan("internal"));
        for order in [[&a, &a, &b, &b], [&a, &b, &a, &b], [&a, &b, &b, &a]] {
            let order = order.map(Clone::clone);
            let workers = dealt(2, &order);
            for kin in [&a, &b] {
                let own = order
                    .iter()
                    .zip(&workers)
                    .filter(|(other, _)| *other == kin);
                let mut own: Vec<usize> = own.map(|(_, worker)| *worker).collect();
                own.sort_unstable();
                assert_eq!(own, [0, 1], "{order:?} {workers:?}");
            }
        }
        // Of two physical functions as of two VLANs.
        let (a, b) = (Kin::Parent("p0".to_owned()), Kin::Parent("p1".to_owned()));
        assert_eq!(
            dealt(2, &[a.clone(), a.clone(), b.clone(), b.clone()]),
            [0, 1, 0, 1]
        );
        assert_eq!(dealt(2, &[a.clone(), b.clone(), a, b]), [0, 1, 1, 0]);
    }

    #[test]
    fn ports_that_nothing_is_known_of_are_dealt_out_in_turn() {
        let alone: Vec<Kin> = (0..6).map(|port| Kin::Alone(PortId(port))).collect();
        assert_eq!(dealt(2, &alone), [0, 1, 0, 1, 0, 1]);
        assert_eq!(dealt(4, &alone), [0, 1, 2, 3, 0, 1]);
        assert_eq!(
            dealt(2, &[vlan("a"), vlan("b")]),
            [0, 1],
            "a worker for each VLAN's only port"
        );
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let mut dealer = Dealer::new(2);
        let mut polls = |first| {
            let lanes = dealer.deal(vlan("a"), 1, 1, first);
            lanes.rx.iter().position(Option::is_some)
        };
        assert_eq!(polls(Some(1)), Some(1));
        assert_eq!(polls(Some(1)), Some(1));
        assert_eq!(polls(None), Some(0));
    }

    #[test]
    fn ports_with_a_queue_for_each_worker_do_not_count() {
        let mut dealer = Dealer::new(2);
        assert_eq!(dealer.deal(vlan("a"), 2, 2, None).rx, [Some(0), Some(1)]);
        assert_eq!(dealer.deal(vlan("a"), 2, 1, Some(1)).senders, [1, 1]);
        assert_eq!(dealer.deal(vlan("a"), 1, 1, None).rx, [Some(0), None]);
    }

    #[test]
    fn what_the_operator_wants_must_be_possible() {
        let wanted = |list: &[&str]| -> Vec<PortWorker> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert!(check(&wanted(&["1.1=1", "1.2=0"]), 2, 2).is_ok());
        for (bad, why) in [
            (&["1.3=0"][..], "no port 1.3"),
            (&["1.1=2"], "numbered 0 to 1"),
            (&["1.1=0", "1.1=1"], "twice"),
        ] {
            let error = check(&wanted(bad), 2, 2).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for bad in ["1.1", "1.0=0", "eth0=1", "1.1=x", "1.1=-1"] {
            assert!(bad.parse::<PortWorker>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_vlan_whose_ports_one_worker_polls_is_told_of() {
        let object = |name: &str, interfaces: &[&str]| {
            serde_json::json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
                "metadata": { "name": name },
                "spec": { "name": name, "tag": 100, "interfaces": interfaces } })
        };
        let mut rig = Rig::new(&RigConfig {
            ports: 4,
            ..RigConfig::default()
        });
        rig.apply(&[object("a", &["1.1", "1.3"]), object("b", &["1.2", "1.4"])])
            .unwrap();
        rig.advance(net::Timestamp::ZERO);
        let tables = rig.control().tables();
        let (zero, one) = (Lanes::new(&[0, 1], 1, 1), Lanes::new(&[1, 0], 1, 1));
        let lanes = [&zero, &one, &zero, &one];
        let told = lopsided(&tables, &lanes, 2);
        let texts: Vec<String> = told
            .into_iter()
            .map(|(vlan, what)| vlan + " " + &what)
            .collect();
        assert_eq!(texts, ["a 1.1=0,1.3=1", "b 1.2=0,1.4=1"]);
        let lanes = [&zero, &one, &one, &zero];
        assert_eq!(lopsided(&tables, &lanes, 2), BTreeMap::new());
    }

    #[test]
    fn the_parent_of_a_port_is_what_sysfs_says() {
        let sys = std::env::temp_dir().join(format!("tmm-kin-{}", std::process::id()));
        let pci = sys.join("bus/pci/devices");
        std::fs::create_dir_all(pci.join("0000:01:00.0")).unwrap();
        std::fs::create_dir_all(pci.join("0000:01:10.0")).unwrap();
        std::os::unix::fs::symlink("../0000:01:00.0", pci.join("0000:01:10.0/physfn")).unwrap();
        for (name, lower) in [
            ("mv0", &["lower_eth1"][..]),
            ("bond0", &["lower_a", "lower_b"]),
        ] {
            for lower in lower {
                std::fs::create_dir_all(sys.join("class/net").join(name).join(lower)).unwrap();
            }
        }
        let of = |spec: &str| parent(&spec.parse().unwrap(), &sys);
        assert_eq!(of("pci:0000:01:10.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(of("pci:0000:01:00.0"), None);
        assert_eq!(of("af_packet:mv0").as_deref(), Some("lower_eth1"));
        assert_eq!(of("af_packet:bond0"), None);
        assert_eq!(of("null"), None);
        std::fs::remove_dir_all(sys).unwrap();
    }
}
