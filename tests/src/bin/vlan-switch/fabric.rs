//! What makes a switch of a set of ports: VLAN membership, learning, flooding.

use std::collections::HashMap;

use crate::frame::Vlan;

/// Stations remembered at most; beyond it frames are flooded, which is slower but still right.
const MAX_STATIONS: usize = 65_536;

/// Which VLANs a port carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// One VLAN, whose frames carry no tag here.
    Access(Vlan),
    /// These VLANs, tagged; `None` for every VLAN.
    Trunk(Option<Vec<Vlan>>),
}

impl Membership {
    fn carries(&self, vlan: Vlan) -> bool {
        match self {
            Self::Access(own) => *own == vlan,
            Self::Trunk(None) => true,
            Self::Trunk(Some(list)) => list.contains(&vlan),
        }
    }
}

/// The learning table.
#[derive(Debug)]
pub struct Fabric {
    members: Vec<Membership>,
    stations: HashMap<(Vlan, [u8; 6]), usize>,
}

impl Fabric {
    /// A fabric over ports numbered as in `members`.
    pub fn new(members: Vec<Membership>) -> Self {
        Self {
            members,
            stations: HashMap::new(),
        }
    }

    /// Collects in `out` the ports a frame leaves by, learning where its sender is.
    pub fn forward(
        &mut self,
        ingress: usize,
        vlan: Vlan,
        source: [u8; 6],
        destination: [u8; 6],
        out: &mut Vec<usize>,
    ) {
        out.clear();
        if !self.members[ingress].carries(vlan) {
            return;
        }
        if !is_group(source) {
            self.learn(vlan, source, ingress);
        }
        match self.stations.get(&(vlan, destination)) {
            Some(&port) if !is_group(destination) => {
                // A station on the port the frame came from has heard it already.
                if port != ingress {
                    out.push(port);
                }
            }
            _ => out.extend(
                (0..self.members.len())
                    .filter(|&port| port != ingress && self.members[port].carries(vlan)),
            ),
        }
    }

    fn learn(&mut self, vlan: Vlan, station: [u8; 6], port: usize) {
        let full = self.stations.len() >= MAX_STATIONS;
        match self.stations.get_mut(&(vlan, station)) {
            Some(known) => *known = port,
            None if full => {}
            None => {
                self.stations.insert((vlan, station), port);
            }
        }
    }
}

/// Whether an address names a group (broadcast or multicast) and not one station.
fn is_group(address: [u8; 6]) -> bool {
    address[0] & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
    const V100: Vlan = Vlan {
        outer: 0,
        inner: 100,
    };
    const V200: Vlan = Vlan {
        outer: 0,
        inner: 200,
    };

    fn fabric() -> Fabric {
        Fabric::new(vec![
            Membership::Access(V100),
            Membership::Access(V100),
            Membership::Access(V200),
            Membership::Trunk(None),
            Membership::Trunk(Some(vec![V200])),
        ])
    }

    fn out(
        fabric: &mut Fabric,
        ingress: usize,
        vlan: Vlan,
        source: [u8; 6],
        destination: [u8; 6],
    ) -> Vec<usize> {
        let mut out = vec![99];
        fabric.forward(ingress, vlan, source, destination, &mut out);
        out
    }

    #[test]
    fn an_unknown_station_is_flooded_inside_its_vlan_only() {
        assert_eq!(out(&mut fabric(), 0, V100, A, B), [1, 3]);
        assert_eq!(out(&mut fabric(), 3, V200, A, B), [2, 4]);
    }

    #[test]
    fn a_learnt_station_gets_its_frames_alone() {
        let mut fabric = fabric();
        out(&mut fabric, 3, V100, B, A);
        assert_eq!(out(&mut fabric, 0, V100, A, B), [3]);
        assert_eq!(out(&mut fabric, 3, V100, B, A), [0]);
    }

    #[test]
    fn the_same_address_may_live_on_different_ports_of_different_vlans() {
        let mut fabric = fabric();
        out(&mut fabric, 0, V100, A, [0xff; 6]);
        out(&mut fabric, 2, V200, A, [0xff; 6]);
        assert_eq!(out(&mut fabric, 3, V100, B, A), [0]);
        assert_eq!(out(&mut fabric, 3, V200, B, A), [2]);
    }

    #[test]
    fn a_station_that_moves_is_followed() {
        let mut fabric = fabric();
        out(&mut fabric, 0, V100, A, [0xff; 6]);
        out(&mut fabric, 1, V100, A, [0xff; 6]);
        assert_eq!(out(&mut fabric, 3, V100, B, A), [1]);
    }

    #[test]
    fn a_frame_of_a_vlan_its_port_does_not_carry_is_dropped_and_teaches_nothing() {
        let mut fabric = fabric();
        assert!(out(&mut fabric, 4, V100, A, B).is_empty());
        assert_eq!(out(&mut fabric, 0, V100, B, A), [1, 3]);
    }

    #[test]
    fn a_frame_is_never_sent_back_where_it_came_from() {
        let mut fabric = fabric();
        out(&mut fabric, 3, V100, A, [0xff; 6]);
        assert!(out(&mut fabric, 3, V100, B, A).is_empty());
    }

    #[test]
    fn a_group_address_is_flooded_even_if_someone_claimed_to_be_it() {
        let mut fabric = fabric();
        let group = [0x33, 0x33, 0, 0, 0, 1];
        out(&mut fabric, 1, V100, group, A);
        assert_eq!(out(&mut fabric, 0, V100, A, group), [1, 3]);
    }
}
