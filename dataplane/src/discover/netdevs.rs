//! Which of a pod's kernel interfaces become ports, and by which driver.

use dpdk::PortSpec;

use super::netlink::Netdev;
use crate::run::args::InterfaceDriver;

/// The name that container runtimes give a pod's own interface.
const PRIMARY: &str = "eth0";
/// The largest MTU for which a frame fits into a page with all that XDP keeps there.
const XDP_MTU: u32 = 3000;

/// The interfaces that become ports, in their order, and those that do not.
#[derive(Debug, Default)]
pub struct Selection {
    /// 1.1, 1.2, ….
    pub ports: Vec<Netdev>,
    /// The others, each with the reason.
    pub skipped: Vec<(String, &'static str)>,
    /// What must be mended first.
    pub problems: Vec<String>,
}

/// Picks the extra interfaces of a pod. `defaults` are the numbers of those that have a default
/// route; `taken`, the names of those that are ports otherwise.
///
/// The order is that of their attachment: `net1`, `net2`, … as Multus names them, then by number.
pub fn select(netdevs: &[Netdev], defaults: &[u32], taken: &[String]) -> Selection {
    let mut selection = Selection::default();
    let has_primary = netdevs.iter().any(|netdev| netdev.name == PRIMARY);
    for netdev in netdevs {
        let name = &netdev.name;
        let reason = if netdev.loopback {
            "loopback"
        } else if name == PRIMARY {
            "the pod's own interface"
        } else if taken.contains(name) {
            "it belongs to a device that is a port already"
        } else if !netdev.ethernet {
            "its frames are not Ethernet frames"
        } else if netdev.controller.is_some() {
            "it belongs to a bridge or bond"
        } else if defaults.contains(&netdev.index) && !has_primary {
            "the pod's own interface: it has the default route"
        } else if let Some(reason) = virtual_only(&netdev.kind) {
            reason
        } else {
            if defaults.contains(&netdev.index) {
                selection.problems.push(format!(
                    "{name} carries the default route, which would vanish with its addresses: take the route away \
                     (no `default-route` in the pod's network annotation), or name the ports with --port"
                ));
            }
            if matches!(netdev.kind.as_str(), "ipvlan" | "ipvtap") {
                selection.problems.push(format!(
                    "{name} is an {}, which has no MAC address of its own and gets only what is for its kernel \
                     addresses: attach a macvlan instead",
                    netdev.kind
                ));
            }
            selection.ports.push(netdev.clone());
            continue;
        };
        selection.skipped.push((name.clone(), reason));
    }
    selection
        .ports
        .sort_by_key(|netdev| match attachment(&netdev.name) {
            Some(number) => (0, number),
            None => (1, netdev.index),
        });
    selection
}

/// The number that Multus has given an interface.
fn attachment(name: &str) -> Option<u32> {
    name.strip_prefix("net")?.parse().ok()
}

/// Why an interface of this kind leads nowhere.
fn virtual_only(kind: &str) -> Option<&'static str> {
    match kind {
        "bridge" | "ovs" | "openvswitch" => Some("a bridge of this machine's"),
        "dummy" | "ifb" | "nlmon" => Some("it leads nowhere"),
        "tun" => Some("a program's own interface"),
        "vxlan" | "geneve" | "gretap" | "ip6gretap" | "erspan" | "ip6erspan" | "wireguard"
        | "bareudp" | "gtp" => Some("a tunnel"),
        "vrf" => Some("a routing table"),
        _ => None,
    }
}

/// How an interface will be driven, what is tried if that fails, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// The port.
    pub spec: PortSpec,
    /// What is tried next.
    pub fallback: Option<PortSpec>,
    /// Why so.
    pub why: String,
}

/// Chooses the driver of an interface. `mtu` is what it shall have, `rx_queues` how many receive
/// queues are in use, `xdp` whether AF_XDP can be had at all, or why not.
pub fn drive(
    netdev: &Netdev,
    asked: InterfaceDriver,
    mtu: u32,
    rx_queues: u32,
    workers: u16,
    xdp: &Result<(), String>,
) -> Drive {
    let name = || netdev.name.clone();
    let packet = |why: String| Drive {
        spec: PortSpec::AfPacket(name()),
        fallback: None,
        why,
    };
    match asked {
        InterfaceDriver::AfPacket => return packet("AF_PACKET, as asked for".to_owned()),
        InterfaceDriver::AfXdp => {
            return Drive {
                spec: PortSpec::AfXdp(name()),
                fallback: None,
                why: "AF_XDP, as asked for".to_owned(),
            };
        }
        InterfaceDriver::Auto => {}
    }
    if let Err(reason) = xdp {
        return packet(format!("AF_PACKET, for AF_XDP is not to be had: {reason}"));
    }
    if matches!(netdev.kind.as_str(), "macvlan" | "macvtap" | "vlan") {
        return packet(format!(
            "AF_PACKET: the kernel refuses AF_XDP on a {}, and has taken VLAN tags off before it sees a frame",
            netdev.kind
        ));
    }
    if mtu > XDP_MTU {
        return packet(format!(
            "AF_PACKET: with an MTU of {mtu}, frames are too large for AF_XDP, which takes {XDP_MTU} octets"
        ));
    }
    if rx_queues > u32::from(workers) {
        return packet(format!(
            "AF_PACKET: {rx_queues} receive queues and {workers} workers; AF_XDP would miss what comes in by the others"
        ));
    }
    Drive {
        spec: PortSpec::AfXdp(name()),
        fallback: Some(PortSpec::AfPacket(name())),
        why: "AF_XDP, or AF_PACKET if the kernel refuses".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netdev(index: u32, name: &str, kind: &str) -> Netdev {
        Netdev {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            ethernet: true,
            mtu: 1500,
            ..Netdev::default()
        }
    }

    fn names(selection: &Selection) -> Vec<&str> {
        let names = selection.ports.iter().map(|netdev| netdev.name.as_str());
        names.collect()
    }

    #[test]
    fn extra_interfaces_come_in_the_order_of_their_attachment() {
        let netdevs = [
            Netdev {
                loopback: true,
                ..netdev(1, "lo", "")
            },
            netdev(9, "eth0", "veth"),
            netdev(4, "net10", "macvlan"),
            netdev(7, "net2", "macvlan"),
            netdev(5, "storage", "veth"),
            netdev(6, "net1", ""),
            netdev(3, "uplink", ""),
        ];
        let selection = select(&netdevs, &[9], &[]);
        assert_eq!(
            names(&selection),
            ["net1", "net2", "net10", "uplink", "storage"]
        );
        assert!(selection.problems.is_empty());
    }

    #[test]
    fn what_is_no_extra_interface_is_left_alone_and_said_why() {
        let netdevs = [
            Netdev {
                loopback: true,
                ..netdev(1, "lo", "")
            },
            Netdev {
                ethernet: false,
                ..netdev(2, "tunl0", "ipip")
            },
            Netdev {
                ethernet: false,
                ..netdev(3, "sit0", "sit")
            },
            netdev(4, "docker0", "bridge"),
            Netdev {
                controller: Some(4),
                ..netdev(5, "veth77", "veth")
            },
            netdev(6, "ens3", ""),
            netdev(7, "tap0", "tun"),
            netdev(8, "vf", ""),
            netdev(9, "net1", "macvlan"),
        ];
        let selection = select(&netdevs, &[6], &["vf".to_owned()]);
        assert_eq!(names(&selection), ["net1"]);
        let skipped: Vec<String> = selection
            .skipped
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        insta::assert_snapshot!(skipped.join("\n"), @r"
        lo: loopback
        tunl0: its frames are not Ethernet frames
        sit0: its frames are not Ethernet frames
        docker0: a bridge of this machine's
        veth77: it belongs to a bridge or bond
        ens3: the pod's own interface: it has the default route
        tap0: a program's own interface
        vf: it belongs to a device that is a port already
        ");
    }

    #[test]
    fn an_extra_interface_with_the_default_route_or_without_a_mac_is_a_problem() {
        let netdevs = [netdev(2, "eth0", "veth"), netdev(3, "net1", "ipvlan")];
        let problems = select(&netdevs, &[3], &[]).problems;
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].contains("net1 carries the default route"),
            "{problems:?}"
        );
        assert!(
            problems[1].contains("attach a macvlan instead"),
            "{problems:?}"
        );
    }

    #[test]
    fn the_driver_is_the_fastest_that_loses_nothing() {
        let said = |kind: &str, asked, mtu, queues, xdp: Result<(), String>| {
            let drive = drive(&netdev(2, "net1", kind), asked, mtu, queues, 1, &xdp);
            let next = drive
                .fallback
                .map_or(String::new(), |next| format!(" then {next}"));
            format!("{}{next}: {}", drive.spec, drive.why)
        };
        let auto = InterfaceDriver::Auto;
        insta::assert_snapshot!([
            said("veth", auto, 1500, 1, Ok(())),
            said("", auto, 1500, 1, Ok(())),
            said("macvlan", auto, 1500, 1, Ok(())),
            said("veth", auto, 9000, 1, Ok(())),
            said("veth", auto, 1500, 4, Ok(())),
            said("veth", auto, 1500, 1, Err("no sockets".to_owned())),
            said("macvlan", InterfaceDriver::AfXdp, 1500, 1, Ok(())),
            said("veth", InterfaceDriver::AfPacket, 1500, 1, Ok(())),
        ].join("\n"), @r"
        af_xdp:net1 then af_packet:net1: AF_XDP, or AF_PACKET if the kernel refuses
        af_xdp:net1 then af_packet:net1: AF_XDP, or AF_PACKET if the kernel refuses
        af_packet:net1: AF_PACKET: the kernel refuses AF_XDP on a macvlan, and has taken VLAN tags off before it sees a frame
        af_packet:net1: AF_PACKET: with an MTU of 9000, frames are too large for AF_XDP, which takes 3000 octets
        af_packet:net1: AF_PACKET: 4 receive queues and 1 workers; AF_XDP would miss what comes in by the others
        af_packet:net1: AF_PACKET, for AF_XDP is not to be had: no sockets
        af_xdp:net1: AF_XDP, as asked for
        af_packet:net1: AF_PACKET, as asked for
        ");
    }
}
