use dpdk::Error;
use net::Timestamp;
use serde_json::json;

use super::*;
use crate::rig::{Rig, RigConfig, port_mac};

/// A device that writes down what it was told.
#[derive(Default)]
struct Device {
    told: Vec<String>,
    /// Refuses these.
    vlans: Vec<u16>,
    macs: bool,
}

impl Device {
    fn tell(&mut self, refuse: bool, what: String) -> Result<(), Error> {
        self.told.push(what);
        if refuse {
            return Err(Error::BadConfig("refused".to_owned()));
        }
        Ok(())
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.told).join(" ")
    }
}

impl Intake for Device {
    fn set_vlan(&mut self, vlan: VlanId, on: bool) -> Result<bool, Error> {
        let refuse = self.vlans.contains(&vlan.get());
        let sign = if on { '+' } else { '-' };
        self.tell(refuse, format!("{sign}{vlan}")).map(|()| true)
    }

    fn add_mac(&mut self, mac: MacAddr) -> Result<(), Error> {
        self.tell(self.macs, format!("+{mac}"))
    }

    fn remove_mac(&mut self, mac: MacAddr) -> Result<(), Error> {
        self.tell(self.macs, format!("-{mac}"))
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        let sign = if on { '+' } else { '-' };
        self.tell(false, format!("{sign}all"))
    }
}

fn vlans(ids: &[u16]) -> Wanted {
    Wanted {
        vlans: ids.iter().filter_map(|id| VlanId::new(*id)).collect(),
        macs: BTreeSet::new(),
    }
}

fn macs(last: &[u8]) -> Wanted {
    Wanted {
        vlans: BTreeSet::new(),
        macs: last
            .iter()
            .map(|last| MacAddr([2, 0, 0, 0, 0, *last]))
            .collect(),
    }
}

const PORT: PortId = PortId(0);

#[test]
fn each_port_lets_in_the_tags_of_its_vlans_and_the_address_of_its_lag() {
    let mut rig = Rig::new(&RigConfig::default());
    let vlan = |name: &str, tag: Option<u16>, interfaces: &[&str]| {
        let bonded = name == "lag";
        let mut spec = json!({ "name": name, "interfaces": interfaces, "bonded": bonded });
        if let Some(tag) = tag {
            spec["tag"] = tag.into();
        }
        json!({ "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan",
            "metadata": { "name": name }, "spec": spec })
    };
    rig.apply(&[
        vlan("lag", Some(100), &["1.2", "1.1"]),
        vlan("links", Some(300), &["1.2", "1.1"]),
        vlan("first", Some(200), &["1.1"]),
        vlan("plain", None, &["1.1"]),
    ])
    .unwrap();
    rig.advance(Timestamp::ZERO);
    let tables = rig.control().tables();
    assert_eq!(tables.vlans.iter().count(), 4);
    let of = |port: usize| Wanted::of(&tables.vlans, &tables.ports[port]);
    assert_eq!(of(0).vlans, vlans(&[100, 200, 300]).vlans);
    assert_eq!(of(0).macs, BTreeSet::from([port_mac(PortId(1))]));
    assert_eq!(of(1), vlans(&[100, 300]), "its own address only");
}

#[test]
fn a_device_is_told_of_differences_only_and_gives_up_vlans_before_it_takes_new_ones() {
    let (mut filter, mut device) = (Filter::default(), Device::default());
    for (wanted, told) in [
        (vlans(&[]), ""),
        (vlans(&[100, 200]), "+100 +200"),
        (vlans(&[100, 200]), ""),
        (vlans(&[50, 200, 300]), "-100 +50 +300"),
        (vlans(&[]), "-50 -200 -300"),
    ] {
        filter.follow(PORT, &mut device, &wanted, false);
        assert_eq!(device.take(), told);
    }
}

#[test]
fn a_refused_vlan_is_asked_for_again_with_the_next_configuration() {
    let (mut filter, mut device) = (Filter::default(), Device::default());
    device.vlans = vec![200];
    filter.follow(PORT, &mut device, &vlans(&[100, 200]), false);
    assert_eq!(device.take(), "+100 +200");
    filter.follow(PORT, &mut device, &vlans(&[100, 200]), false);
    assert_eq!(device.take(), "+200");
    device.vlans.clear();
    filter.follow(PORT, &mut device, &vlans(&[100, 200]), false);
    assert_eq!(device.take(), "+200");
    filter.follow(PORT, &mut device, &vlans(&[100, 200]), false);
    assert_eq!(device.take(), "");
    assert_eq!(filter.refused, Wanted::default());
}

#[test]
fn addresses_go_into_the_filter_and_out_of_it() {
    let (mut filter, mut device) = (Filter::default(), Device::default());
    filter.follow(PORT, &mut device, &macs(&[1]), false);
    filter.follow(PORT, &mut device, &macs(&[1]), false);
    filter.follow(PORT, &mut device, &macs(&[2]), false);
    assert_eq!(
        device.take(),
        "+02:00:00:00:00:01 -02:00:00:00:00:01 +02:00:00:00:00:02"
    );
}

#[test]
fn a_device_without_address_filter_takes_in_all_as_long_as_it_must() {
    let (mut filter, mut device) = (Filter::default(), Device::default());
    device.macs = true;
    filter.follow(PORT, &mut device, &macs(&[1]), false);
    assert_eq!(device.take(), "+02:00:00:00:00:01 +all");
    filter.follow(PORT, &mut device, &macs(&[2]), false);
    assert_eq!(device.take(), "+02:00:00:00:00:02");
    filter.follow(PORT, &mut device, &macs(&[]), false);
    assert_eq!(device.take(), "-all");

    let mut filter = Filter::default();
    filter.follow(PORT, &mut device, &macs(&[1]), true);
    assert_eq!(device.take(), "+02:00:00:00:00:01", "all is let in anyway");
}
