//! Fragments. The first one has a transport header and is treated as any packet is; what became of it
//! decides about the others, which are readdressed and sent after it. Nothing is put together.
//!
//! With several workers, one sees all fragments from one address to another: whoever gets a fragment hands
//! it there first. If the flow is another's, that one gets them from there, in order.

use conntrack::{Direction, FlowId};
use net::fragment::{self, Piece};
use net::header::{Tcp, view};
use net::{FlowKey, Fragment, IpProto, L4Port, Layers, Network, Packet, Rewrite};

use super::forward::{Fate, fate};
use super::{Arrival, State, goes};
use crate::steer::Steering;
use crate::tables::Tables;
use crate::trains::{Course, Key};
use crate::verdict::{Cut, DropReason, FlowStep, Verdict};

impl State {
    /// Decides about a fragment. `hash` is that of its key, if it is the first.
    #[cold]
    pub(super) fn fragment(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        hash: u64,
    ) -> Verdict {
        let Some(piece) = Piece::of(packet.data(), layers) else {
            return Verdict::Drop(DropReason::BadFragment);
        };
        let (src, dst) = (layers.key.src, layers.key.dst);
        // The later ones of a datagram that came round are followed by name.
        if !arrival.round && tables.self_ips.contains(&src) {
            return Verdict::Drop(DropReason::MartianAddress);
        }
        let me = u16::try_from(self.worker).unwrap_or(0);
        let gathers = self.steering.of_fragments(&src, &dst);
        if self.steering.workers() > 1 && gathers != me && !self.asked.has(gathers) {
            return Verdict::Gather(gathers);
        }
        let key = Key {
            src,
            dst,
            ident: piece.ident,
            proto: piece.proto,
            vlan: arrival.vlan.index,
        };
        let name = self.name_hash(&key);
        // It has been entered, and has only waited or come back from another worker since.
        let is_back = self.asked.has(me) && !self.waited;
        let again = self.waited || is_back;
        let train = if again {
            self.trains.find(&key, name)
        } else {
            match self.trains.arrive(&key, name, &piece, arrival.now) {
                Ok(train) => Some(train),
                Err(reason) => return Verdict::Drop(reason),
            }
        };
        let Some(train) = train else {
            return Verdict::Drop(DropReason::FragmentsFull);
        };
        if is_back {
            self.trains.come_back(train);
        }
        let (course, behind) = self.trains.course(train);
        let waits = match course {
            Course::Unknown => layers.fragment == Fragment::Later,
            _ => behind && !self.waited,
        };
        if waits {
            return match self.trains.wait(train) {
                Ok(place) => Verdict::Wait(place),
                Err(reason) => {
                    self.trains.settle(train, Course::Lost(reason));
                    self.trains.depart(train, false);
                    Verdict::Drop(reason)
                }
            };
        }
        let verdict = if layers.fragment == Fragment::First {
            let (verdict, course) = self.first(tables, arrival, packet, layers, &piece, hash);
            self.trains.settle(train, course);
            verdict
        } else {
            let verdict = self.later(tables, arrival, packet, layers, &piece, course);
            let lost = matches!(course, Course::Lost(_));
            if !lost && matches!(verdict, Verdict::Drop(_)) {
                self.trains
                    .settle(train, Course::Lost(DropReason::Fragment));
            }
            verdict
        };
        if matches!(verdict, Verdict::Handoff(_)) {
            self.trains.send_away(train);
        }
        self.trains.depart(train, self.waited);
        verdict
    }

    fn name_hash(&self, key: &Key) -> u64 {
        let [a, b, c, d] = key.ident.to_be_bytes();
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let key = FlowKey::new(
            key.src,
            key.dst,
            L4Port(ports.0),
            L4Port(ports.1),
            IpProto(key.proto),
        );
        self.flows.hash(&key)
    }

    /// The first fragment: a packet like any other, but that its datagram may get another identification.
    fn first(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        piece: &Piece,
        hash: u64,
    ) -> (Verdict, Course) {
        let lost = Course::Lost(DropReason::Fragment);
        let is_echo = matches!(
            (layers.network, layers.key.proto, layers.icmp_type),
            (Network::Ipv4, IpProto::ICMP, 8) | (Network::Ipv6, IpProto::ICMPV6, 128)
        );
        let owner = tables.owned.get(arrival.vlan.index, &layers.key.dst);
        if is_echo && owner.is_some() {
            let verdict = self.echo_fragment(tables, arrival, packet, layers);
            let course = match verdict {
                Verdict::Reply(..) => Course::Echo,
                _ => lost,
            };
            return (verdict, course);
        }
        let origin = sequence_origin(packet, layers);
        let l3 = packet.shape().start + layers.l3;
        self.went = None;
        let found = self.flows.lookup_hashed(hash, &layers.key);
        let verdict = match found.filter(|(_, direction)| goes(layers, *direction)) {
            Some((id, direction)) => self.forward(tables, arrival, packet, layers, id, direction),
            None => self.without_flow(tables, arrival, packet, layers),
        };
        match verdict {
            Verdict::Transmit(..) | Verdict::Cut(..) | Verdict::Hold(..) | Verdict::Hairpin(..) => {
                let Some((id, direction)) = self.went else {
                    return (verdict, lost);
                };
                let to = self.flows.get(id).map(|flow| flow.translated(direction));
                let ident = to
                    .filter(|to| is_readdressed(layers, to))
                    .map(|_| self.idents.next(layers.network == Network::Ipv6));
                if let Some(ident) = ident {
                    let l3 = l3 - packet.shape().start;
                    piece.set_ident(packet.data_mut(), l3, ident);
                }
                let course = Course::Flow {
                    id,
                    direction,
                    ident,
                    origin,
                };
                (verdict, course)
            }
            Verdict::Handoff(worker) => (verdict, Course::Elsewhere(worker)),
            _ => (verdict, lost),
        }
    }

    /// A later fragment follows the first.
    fn later(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        piece: &Piece,
        course: Course,
    ) -> Verdict {
        match course {
            Course::Unknown => Verdict::Drop(DropReason::Fragment),
            Course::Lost(reason) => Verdict::Drop(reason),
            Course::Echo => self.echo_fragment(tables, arrival, packet, layers),
            // Back from there it would have to be ours, and the first one has not said so.
            Course::Elsewhere(_) if self.asked.has(u16::try_from(self.worker).unwrap_or(0)) => {
                Verdict::Drop(DropReason::Fragment)
            }
            Course::Elsewhere(worker) => Verdict::Handoff(worker),
            Course::Flow {
                id,
                direction,
                ident,
                origin,
            } => {
                let end = origin.map(|origin| origin.wrapping_add(u32::from(piece.end)));
                let flow = (id, direction);
                self.follow(tables, packet, layers, (piece, ident), flow, end)
            }
        }
    }

    /// Sends a later fragment by the flow of the first. It tells the flow nothing, and does not keep it
    /// alive.
    fn follow(
        &mut self,
        tables: &Tables,
        packet: &mut Packet<'_>,
        layers: &Layers,
        (piece, ident): (&Piece, Option<u32>),
        (id, direction): (FlowId, Direction),
        end: Option<u32>,
    ) -> Verdict {
        if layers.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        let Some(flow) = self.flows.get(id) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        if !flow.data().is_current(tables) {
            // What is to happen to the flow itself is decided with its next packet.
            if !matches!(fate(tables, flow), Fate::Keep) {
                return Verdict::Drop(DropReason::FlowGone);
            }
            self.renew(tables, id);
        }
        let Some(flow) = self.flows.get(id) else {
            return Verdict::Drop(DropReason::FlowGone);
        };
        let data = *flow.data();
        let (leg, deltas, step) = match direction {
            Direction::Original => (data.original, data.deltas, FlowStep::Original),
            Direction::Reply => (data.reply, data.deltas.inverted(), FlowStep::Reply),
        };
        // With the ports of the first, so that it leaves by the same link of a LAG.
        let (to, key) = (flow.translated(direction), flow.key(direction));
        // After 65,536 others an identifier is a new flow's.
        if (key.src, key.dst) != (layers.key.src, layers.key.dst) {
            return Verdict::Drop(DropReason::FlowGone);
        }
        let layers = &Layers { key, ..*layers };
        let len = packet.len();
        let rewrite = Rewrite::with_deltas(to, deltas);
        if rewrite.apply_to_later(packet, layers).is_err() {
            return Verdict::Drop(DropReason::Fragment);
        }
        if let Some(ident) = ident {
            piece.set_ident(packet.data_mut(), layers.l3, ident);
        }
        let (verdict, found) = self.send(tables, packet, layers, leg, &to.into(), step);
        if let Some(flow) = self.flows.get_mut(id) {
            if found != leg {
                let data = flow.data_mut();
                match direction {
                    Direction::Original => data.original = found,
                    Direction::Reply => data.reply = found,
                }
                data.stamp_with(tables);
            }
            if !matches!(verdict, Verdict::Drop(_)) {
                flow.carried(direction, end, u32::try_from(len).unwrap_or(u32::MAX));
                self.count_service(tables, &data, direction, len);
            }
        }
        verdict
    }

    /// Whether a packet that is too long for its way out may be cut; then it gets an identification of its
    /// own, if it has been readdressed: others behind the same address may have used the same one.
    pub(super) fn prepare_cut(
        &mut self,
        packet: &mut Packet<'_>,
        layers: &Layers,
        to: &FlowKey,
    ) -> bool {
        if !fragment::may_cut(packet.data(), layers.l3) {
            return false;
        }
        if layers.fragment == Fragment::Whole && is_readdressed(layers, to) {
            let ident = self.idents.next(false);
            fragment::set_ident_v4(packet.data_mut(), layers.l3, ident);
        }
        true
    }
}

/// How a packet with this header is to be cut.
pub(super) fn cut(packet: &Packet<'_>, l3: usize, mtu: usize) -> Cut {
    Cut {
        l3: u16::try_from(l3).unwrap_or(u16::MAX),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        insert_tci: packet.shape().insert_tci,
    }
}

fn is_readdressed(layers: &Layers, to: &FlowKey) -> bool {
    (layers.key.src, layers.key.dst) != (to.src, to.dst)
}

/// The sequence number that the first octet of a TCP datagram would have, header included.
fn sequence_origin(packet: &Packet<'_>, layers: &Layers) -> Option<u32> {
    if layers.key.proto != IpProto::TCP {
        return None;
    }
    let tcp: &Tcp = view(packet.data(), layers.l4)?;
    let header = u32::try_from(layers.payload - layers.l4).ok()?;
    Some(tcp.seq.get().wrapping_sub(header))
}

/// Identifications of datagrams whose addresses we have changed. Several hosts behind one address would
/// use the same ones at the same time, and their fragments would be put together wrongly (RFC 4963).
///
/// A number of 16 bits is not given twice before all others of this worker were; workers have different
/// ones. Nobody can tell the next from those seen (RFC 7739): it is enciphered.
#[derive(Debug)]
pub(super) struct Idents {
    counter: u32,
    workers: u32,
    worker: u32,
    key: [u32; 4],
}

impl Idents {
    /// Of the only worker.
    pub(super) fn alone(seed: u64) -> Self {
        let [a, b] = [seed >> 32, seed].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
        Self {
            counter: 0,
            workers: 1,
            worker: 0,
            key: [a, b, !a, !b].map(scramble),
        }
    }

    /// Of one of several, with a secret that they have in common.
    pub(super) fn shared(steering: &Steering, worker: usize) -> Self {
        let mut key = [0; 4];
        for (word, octets) in key.iter_mut().zip(steering.key().chunks_exact(4)) {
            *word = octets
                .iter()
                .fold(0, |word, octet| word << 8 | u32::from(*octet));
        }
        Self {
            counter: 0,
            workers: u32::from(steering.workers()),
            worker: u32::try_from(worker).unwrap_or(0),
            key: key.map(scramble),
        }
    }

    fn next(&mut self, v6: bool) -> u32 {
        let bits = if v6 { 32 } else { 16 };
        let per_worker = (1u64 << bits) / u64::from(self.workers);
        let turn = u64::from(self.counter) % per_worker;
        self.counter = self.counter.wrapping_add(1);
        let number = turn * u64::from(self.workers) + u64::from(self.worker);
        self.encipher(u32::try_from(number).unwrap_or(0), bits)
    }

    /// A permutation of the numbers of so many bits: a Feistel network of four rounds.
    fn encipher(&self, number: u32, bits: u32) -> u32 {
        let half = bits / 2;
        let mask = (1 << half) - 1;
        let (mut left, mut right) = (number >> half, number & mask);
        for key in self.key {
            (left, right) = (right, left ^ scramble(right ^ key) & mask);
        }
        left << half | right
    }
}

/// Mixes all bits of a word into all others (MurmurHash3's last step; Appleby, public domain).
const fn scramble(mut word: u32) -> u32 {
    word = (word ^ word >> 16).wrapping_mul(0x85eb_ca6b);
    word = (word ^ word >> 13).wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_identification_comes_again_before_all_have_come_on_any_worker() {
        for workers in [1, 2, 3, 4] {
            let steering = Steering::new(workers, 7);
            let mut seen = HashSet::new();
            for worker in 0..workers {
                let mut idents = Idents::shared(&steering, usize::from(worker));
                let share = 65_536 / u32::from(workers);
                for _ in 0..share {
                    let ident = idents.next(false);
                    assert!(ident < 65_536);
                    assert!(seen.insert(ident), "{ident} twice among {workers}");
                }
            }
            assert!(seen.len() > 65_536 - 4);
        }
    }

    #[test]
    fn identifications_are_not_counted_up() {
        let mut idents = Idents::alone(1);
        for v6 in [false, true] {
            let numbers: Vec<u32> = (0..1000).map(|_| idents.next(v6)).collect();
            let steps: HashSet<u32> = numbers
                .windows(2)
                .map(|pair| pair[1].wrapping_sub(pair[0]))
                .collect();
            assert!(steps.len() > 900, "{} of 999 steps differ", steps.len());
        }
    }
}
