//! Frames that wait for the MAC address of their next hop: translated already, bounded in number and
//! time, sent in the order they came.

use std::collections::VecDeque;
use std::time::Duration;

use net::fragment::may_cut;
use net::{PortId, Timestamp};
use vlan::neighbor::{Neighbors, Resolution};

use crate::egress::Own;
use crate::port::Frame;
use crate::tables::Tables;
use crate::verdict::{Cut, DropReason, FlowStep, Held, Whose};

/// The most frames that wait, and the most that wait for one neighbour.
const CAPACITY: usize = 256;
const PER_NEIGHBOR: usize = 16;
/// How long a frame waits: longer than resolution takes to fail.
const PATIENCE: Duration = Duration::from_secs(4);

struct Waiting<F> {
    frame: F,
    held: Held,
    /// `None`: a frame of our own.
    step: Option<FlowStep>,
    since: Timestamp,
}

/// What became of a frame that waited.
pub enum Released<F> {
    /// Its neighbour is known: send it by this port, in fragments if it is too long.
    Send(F, PortId, Option<FlowStep>, Option<Cut>),
    /// It is given up; with the frame, whose packet it was.
    Drop(F, Option<Whose>, DropReason),
}

/// The frames that wait, oldest first.
pub struct HoldQueue<F>(VecDeque<Waiting<F>>);

impl<F: Frame> HoldQueue<F> {
    /// An empty queue; it never grows.
    pub fn new() -> Self {
        Self(VecDeque::with_capacity(CAPACITY))
    }

    /// Whether no frame waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives all frames back to their ports' pools.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts a frame aside; false if there is no room for it, and it is gone.
    pub fn push(&mut self, frame: F, held: Held, step: Option<FlowStep>, now: Timestamp) -> bool {
        let same = |w: &&Waiting<F>| w.held.vlan == held.vlan && w.held.next_hop == held.next_hop;
        if self.0.len() >= CAPACITY || self.0.iter().filter(same).count() >= PER_NEIGHBOR {
            return false;
        }
        self.0.push_back(Waiting {
            frame,
            held,
            step,
            since: now,
        });
        true
    }

    /// The next frame whose wait is over, in order; `at` is where to go on looking, 0 at first. `own`: by
    /// which ports the worker sends itself.
    pub fn release(
        &mut self,
        at: &mut usize,
        now: Timestamp,
        neighbors: &Neighbors,
        (tables, own): (&Tables, &Own),
    ) -> Option<Released<F>> {
        while let Some(waiting) = self.0.get_mut(*at) {
            let held = &mut waiting.held;
            let mut resolution = held
                .neighbor
                .map_or(Resolution::Stale, |n| neighbors.mac(n));
            if resolution == Resolution::Stale {
                held.neighbor = neighbors.lookup(held.vlan, &held.next_hop);
                resolution = held
                    .neighbor
                    .map_or(Resolution::Pending, |n| neighbors.mac(n));
            }
            let outcome = match resolution {
                Resolution::Reachable(mac) => Ok(mac),
                Resolution::Failed => Err(DropReason::NeighborUnreachable),
                _ if now.since(waiting.since) > PATIENCE => Err(DropReason::NeighborUnreachable),
                Resolution::Pending | Resolution::Stale => {
                    *at += 1;
                    continue;
                }
            };
            let mut over = self.0.remove(*at)?;
            let sent =
                outcome.and_then(|mac| address(&mut over.frame, &over.held, mac, (tables, own)));
            return Some(match sent {
                Ok((port, cut)) => Released::Send(over.frame, port, over.step, cut),
                Err(reason) => Released::Drop(over.frame, over.held.whose, reason),
            });
        }
        None
    }
}

/// Writes the Ethernet header as the VLAN is now: it may have another tag, MAC address or MTU than when
/// the frame was put aside.
fn address<F: Frame>(
    frame: &mut F,
    held: &Held,
    mac: net::MacAddr,
    (tables, own): (&Tables, &Own),
) -> Result<(PortId, Option<Cut>), DropReason> {
    let vlan = tables.vlans.get(held.vlan).ok_or(DropReason::NoRoute)?;
    let port = tables
        .egress_port(held.vlan, mac, own, || held.flow_hash)
        .ok_or(DropReason::PortDown)?;
    let mut packet = frame.packet();
    let too_long = packet.len().saturating_sub(usize::from(held.l3)) > usize::from(vlan.mtu);
    if too_long && !may_cut(packet.data(), usize::from(held.l3)) {
        return Err(DropReason::MtuExceeded);
    }
    let l3 = packet
        .set_ethernet(
            usize::from(held.l3),
            mac,
            vlan.mac_of(port),
            vlan.encap,
            held.ethertype,
            tables.inserts_tag(port),
        )
        .map_err(|_| DropReason::NoRoom)?;
    packet.pad();
    let shape = packet.shape();
    frame.set_shape(shape);
    let cut = too_long.then(|| Cut {
        l3: u16::try_from(l3).unwrap_or(u16::MAX),
        mtu: vlan.mtu,
        insert_tci: shape.insert_tci,
    });
    Ok((port, cut))
}
