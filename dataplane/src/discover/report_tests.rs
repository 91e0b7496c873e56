use dpdk::{PciDevice, PortSpec};
use net::{MacAddr, PortId};

use super::super::Choice;
use super::super::netlink::Netdev;
use super::*;

/// A virtual function that can be used, one that cannot, and an interface.
fn found() -> Discovery {
    let function = |address: &str, kernel: &str| PciDevice {
        address: address.parse().unwrap(),
        ids: Some((0x8086, 0x154c)),
        kernel_driver: Some(kernel.to_owned()),
        dpdk_driver: Some("net_iavf".to_owned()),
        iommu_group: Some("42".to_owned()),
        no_iommu: false,
        numa_node: Some(1),
        physical_function: "0000:3b:00.0".parse().ok(),
        netdev: None,
    };
    let port = |number: u8, spec: PortSpec, source: &str, why: &str| Found {
        id: PortId(number),
        choice: Choice {
            spec,
            fallback: None,
        },
        source: source.to_owned(),
        why: why.to_owned(),
        driver: Some("net_iavf".to_owned()),
        pci: None,
        netdev: None,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let pci = |number: u8, address: &str, kernel: &str, why: &str| {
        let source = format!("OPENSHIFT_VFIO_RESOURCE_{}", number + 1);
        let spec = PortSpec::Pci(address.parse().unwrap());
        Found {
            pci: Some(function(address, kernel)),
            ..port(number, spec, &source, why)
        }
    };
    let mut bad = pci(1, "0000:3b:0a.0", "iavf", "it is in the wrong hands");
    bad.problems
        .push("0000:3b:0a.0 is bound to iavf: bind it to vfio-pci".to_owned());
    let interface = Found {
        choice: Choice {
            spec: PortSpec::AfXdp("net1".to_owned()),
            fallback: Some(PortSpec::AfPacket("net1".to_owned())),
        },
        driver: Some("net_af_xdp".to_owned()),
        netdev: Some(Netdev {
            index: 3,
            name: "net1".to_owned(),
            kind: "veth".to_owned(),
            mac: Some(MacAddr([2, 0, 0, 0, 9, 1])),
            mtu: 1500,
            up: true,
            running: true,
            ..Netdev::default()
        }),
        warnings: vec!["something to know".to_owned()],
        ..port(
            2,
            PortSpec::Null,
            "TMM_MAPRES_ADDL_VETHS_ON_DP",
            "AF_XDP, or AF_PACKET if the kernel refuses",
        )
    };
    Discovery {
        ports: vec![
            pci(0, "0000:3b:02.0", "vfio-pci", "bound to vfio-pci"),
            bad,
            interface,
        ],
        skipped: vec![("eth0".to_owned(), "the pod's own interface")],
        warnings: vec!["a word to all".to_owned()],
        memory_mib: 62,
        free_hugepage_mib: 1572,
        ..Discovery::default()
    }
}

#[test]
fn people_get_a_table_and_under_it_what_is_behind_each_line() {
    insta::assert_snapshot!(human(&found()));
}

#[test]
fn programs_get_all_of_it() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&json(&found())).unwrap());
}

#[test]
fn one_problem_is_a_line_and_several_are_a_list() {
    let mut found = found();
    insta::assert_snapshot!(found.all_problems().unwrap(), @"port 1.2: 0000:3b:0a.0 is bound to iavf: bind it to vfio-pci");
    found.problems.push("and more".to_owned());
    insta::assert_snapshot!(found.all_problems().unwrap(), @r"
    2 things stand in the way of the ports:
      and more
      port 1.2: 0000:3b:0a.0 is bound to iavf: bind it to vfio-pci
    ");
    found.problems.clear();
    found.ports.remove(1);
    assert_eq!(found.all_problems(), None);
}
