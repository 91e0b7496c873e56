//! Scenarios: what is sent when, and what workers see in the meantime.

mod announcing;
mod bounds;
mod keeping;

use std::net::IpAddr;

use net::{Encap, RxMeta, VlanId, emit};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv6Packet, Ipv6Repr, MldAddressRecord, MldRepr, NdiscNeighborFlags, NdiscRepr,
};

use super::*;
use crate::event::How;
use crate::neighbor::Resolution;
use crate::owned::Owner;
use crate::testing::{EXTERNAL, OURS, PEER, vlan};

const V4: &str = "192.0.2.99";
const V6: &str = "2001:db8::99";
const OTHER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x55]);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

/// A resolver on the tests' VLAN, with a clock.
struct Bench {
    resolver: Resolver,
    table: Table,
    owned: Owned,
    now: Timestamp,
}

impl Bench {
    /// Long past the announcements of the start.
    fn new() -> Self {
        Self::with(ResolverConfig::default())
    }

    fn with(config: ResolverConfig) -> Self {
        let table = Table::new(vec![vlan(EXTERNAL.0, 100)]).unwrap();
        let owned = Owned::of_table(&table);
        let mut bench = Self {
            resolver: Resolver::new(config),
            table,
            owned,
            now: Timestamp::from_secs(1000),
        };
        bench.configure();
        bench.pass(10.0);
        bench
    }

    fn configure(&mut self) {
        self.resolver.set_vlans(&self.table, &self.owned, self.now);
    }

    /// What is sent now.
    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.resolver.poll(self.now))
            .inspect(|emit| assert_eq!(emit.vlan, EXTERNAL))
            .map(|emit| describe(&emit.frame(OURS).unwrap()))
            .collect()
    }

    /// Lets time pass, polling at each deadline; gives what was sent with its time since the
    /// start of this call, in ms.
    fn pass(&mut self, seconds: f64) -> Vec<(u64, String)> {
        let start = self.now;
        let end = start + Duration::from_secs_f64(seconds);
        let mut all = vec![];
        while let Some(due) = self.resolver.next_deadline().filter(|&due| due <= end) {
            assert!(
                due >= self.now || all.is_empty(),
                "deadlines do not stay in the past"
            );
            self.now = due.max(self.now);
            let at = u64::try_from(self.now.since(start).as_millis()).unwrap();
            all.extend(self.sent().into_iter().map(|frame| (at, frame)));
        }
        self.now = end;
        all
    }

    fn event(&mut self, event: Event) {
        self.resolver.on_event(event, self.now);
    }

    fn need(&mut self, who: &str) {
        self.event(Event::Needed {
            vlan: EXTERNAL,
            addr: addr(who),
        });
    }

    fn learn(&mut self, who: &str, mac: MacAddr, how: How) {
        self.event(Event::Learned {
            vlan: EXTERNAL,
            addr: addr(who),
            mac,
            how,
        });
    }

    /// Answers as the neighbour would: ARP reply, or solicited advertisement with override.
    fn answer(&mut self, who: &str, mac: MacAddr) {
        let how = if addr(who).is_v4() {
            How::ArpReply
        } else {
            How::Advertisement {
                solicited: true,
                overrides: true,
            }
        };
        self.learn(who, mac, how);
    }

    /// Knows `who` at `PEER`, reachable.
    fn resolve(&mut self, who: &str) {
        self.need(who);
        assert_eq!(self.sent().len(), 1);
        self.answer(who, PEER);
        assert_eq!(self.state(who), Some(NeighborState::Reachable));
    }

    fn lookup(&self, who: &str) -> Option<crate::neighbor::NeighborRef> {
        self.resolver.neighbors().lookup(EXTERNAL, &addr(who))
    }

    /// What a worker sees, and leaves behind: a mark of use.
    fn send_to(&self, who: &str) -> Option<Resolution> {
        self.lookup(who)
            .map(|found| self.resolver.neighbors().mac(found))
    }

    fn info(&self, who: &str) -> Option<NeighborInfo> {
        let all = self.resolver.snapshot();
        all.into_iter().find(|info| info.addr == addr(who))
    }

    fn state(&self, who: &str) -> Option<NeighborState> {
        self.info(who).map(|info| info.state)
    }
}

/// Reads a frame of the resolver's with smoltcp, and says it in words.
fn describe(frame: &[u8]) -> String {
    assert!(frame.len() >= 60);
    let mut buf = frame.to_vec();
    let len = buf.len();
    let packet = net::Packet::new(&mut buf, 0, len, RxMeta::default());
    let layers = net::Layers::parse(&packet).expect("well formed");
    assert_eq!(layers.encap, Encap::from_ids(None, VlanId::new(100)));
    let (src, dst) = emit::macs(frame);
    assert_eq!(src, OURS);
    let l3 = &frame[layers.l3..layers.end];
    if layers.network == net::Network::Arp {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&ArpPacket::new_checked(l3).unwrap()).unwrap()
        else {
            panic!("not ARP for IPv4");
        };
        assert_eq!(operation, ArpOperation::Request);
        assert_eq!(source_hardware_addr.0, OURS.0);
        assert_eq!(target_hardware_addr.0, [0; 6]);
        return format!("{dst} arp who has {target_protocol_addr} tell {source_protocol_addr}");
    }
    let ip = Ipv6Packet::new_checked(l3).unwrap();
    let header = Ipv6Repr::parse(&ip).unwrap();
    let (from, to) = (header.src_addr, header.dst_addr);
    let caps = ChecksumCapabilities::default();
    let message = Icmpv6Packet::new_checked(&frame[layers.l4..layers.end]).unwrap();
    let report = message.msg_type() == Icmpv6Message::MldReport;
    assert_eq!(header.hop_limit, if report { 1 } else { 255 });
    match Icmpv6Repr::parse(&from, &to, &message, &caps).unwrap() {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        }) => {
            assert_eq!(lladdr.unwrap().as_bytes(), OURS.0);
            format!("{dst} {to} nd who has {target_addr} tell {from}")
        }
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr,
        }) => {
            assert_eq!(lladdr.unwrap().as_bytes(), OURS.0);
            assert_eq!(
                flags,
                NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE
            );
            format!("{dst} {to} nd {target_addr} is here, says {from}")
        }
        Icmpv6Repr::Mld(MldRepr::Report {
            nr_mcast_addr_rcrds: 1,
            data,
        }) => {
            // Router alert (RFC 3810 section 5).
            assert_eq!(header.next_header, IpProtocol::HopByHop);
            assert_eq!(l3[42..46], [5, 2, 0, 0]);
            assert_eq!(from, vlan(1, 100).link_local());
            let record = MldAddressRecord::new_checked(data).unwrap();
            assert_eq!((record.num_srcs(), record.payload()), (0, &[][..]));
            let kind = record.record_type();
            format!("{dst} {to} mld {kind:?} {}", record.mcast_addr())
        }
        other => panic!("{other:?}"),
    }
}

const ARP_ALL: &str = "ff:ff:ff:ff:ff:ff arp who has 192.0.2.99 tell 192.0.2.1";
const ARP_ONE: &str = "02:00:00:00:00:99 arp who has 192.0.2.99 tell 192.0.2.1";
const ND_ALL: &str = "33:33:ff:00:00:99 ff02::1:ff00:99 nd who has 2001:db8::99 tell 2001:db8::1";
const ND_ONE: &str = "02:00:00:00:00:99 2001:db8::99 nd who has 2001:db8::99 tell 2001:db8::1";

#[test]
fn a_needed_neighbor_is_asked_for_at_once_and_its_answer_published() {
    for (who, question) in [(V4, ARP_ALL), (V6, ND_ALL)] {
        let mut bench = Bench::new();
        assert_eq!(bench.send_to(who), None);
        bench.need(who);
        assert_eq!(bench.resolver.next_deadline(), Some(bench.now));
        assert_eq!(bench.sent(), [question]);
        assert_eq!(bench.send_to(who), Some(Resolution::Pending));
        bench.need(who);
        assert!(
            bench.sent().is_empty(),
            "asked once, however often it is needed"
        );
        bench.answer(who, PEER);
        assert_eq!(bench.send_to(who), Some(Resolution::Reachable(PEER)));
        assert!(bench.sent().is_empty());
        let info = bench.info(who).unwrap();
        assert_eq!((info.mac, info.confirmed), (Some(PEER), Some(bench.now)));
        assert_eq!(bench.resolver.counters().resolved, 1);
    }
}

#[test]
fn a_link_local_neighbor_is_asked_for_from_our_link_local_address() {
    let mut bench = Bench::new();
    bench.need("fe80::99");
    let own = vlan(1, 100).link_local();
    let question = format!("33:33:ff:00:00:99 ff02::1:ff00:99 nd who has fe80::99 tell {own}");
    assert_eq!(bench.sent(), [question]);
}

#[test]
fn an_unanswered_question_is_repeated_thrice_then_fails_and_is_held_down() {
    for (who, question) in [(V4, ARP_ALL), (V6, ND_ALL)] {
        let mut bench = Bench::new();
        bench.need(who);
        let asked = [0, 1000, 2000].map(|at| (at, question.to_owned()));
        assert_eq!(bench.pass(2.9), asked);
        let neighbor = bench.lookup(who).unwrap();
        assert_eq!(bench.send_to(who), Some(Resolution::Pending));
        assert_eq!(bench.pass(0.2), []);
        assert_eq!(bench.send_to(who), Some(Resolution::Failed));
        bench.need(who);
        assert_eq!(bench.pass(4.8), [], "not asked again during the hold-down");
        assert_eq!(bench.send_to(who), Some(Resolution::Failed));
        assert_eq!(bench.pass(0.2), []);
        assert_eq!(bench.resolver.neighbors().mac(neighbor), Resolution::Stale);
        assert_eq!(bench.lookup(who), None);
        bench.need(who);
        assert_eq!(bench.sent(), [question]);
        assert_eq!(bench.resolver.counters().failed, 1);
        assert_eq!(bench.resolver.counters().solicitations, 4);
    }
}

#[test]
fn an_answer_after_the_last_question_still_counts() {
    let mut bench = Bench::new();
    bench.need(V4);
    bench.pass(4.0);
    assert_eq!(bench.send_to(V4), Some(Resolution::Failed));
    bench.answer(V4, PEER);
    assert_eq!(bench.send_to(V4), Some(Resolution::Reachable(PEER)));
}

#[test]
fn two_of_us_resolve_each_other() {
    // The peer is another instance of this crate with the neighbour's addresses.
    let mut theirs = vlan(EXTERNAL.0, 100);
    theirs.mac = PEER;
    theirs.self_ips = vec![
        crate::testing::self_ip(V4, 24),
        crate::testing::self_ip(V6, 64),
    ];
    let table = Table::new(vec![theirs.clone()]).unwrap();
    let owned = Owned::of_table(&table);
    for who in [V4, V6] {
        let mut bench = Bench::new();
        bench.need(who);
        let question = bench.resolver.poll(bench.now).unwrap();
        let question = question.frame(OURS).unwrap();
        let handle = |frame: &[u8], vlan: &Vlan, owned: &Owned| {
            crate::testing::with_packet(frame, |packet| {
                let layers = net::Layers::parse(packet).unwrap();
                if layers.network == net::Network::Arp {
                    crate::answer::handle_arp(packet, &layers, vlan, vlan.mac, owned)
                } else {
                    crate::answer::handle_icmpv6_nd(packet, &layers, vlan, vlan.mac, owned)
                }
            })
        };
        let (outcome, answer) = handle(&question, &theirs, &owned);
        let crate::answer::Outcome::ReplyAndEvent(learned) = outcome else {
            panic!("{outcome:?}");
        };
        let ours = bench.table.get(EXTERNAL).unwrap().clone();
        let (outcome, _) = handle(&answer, &ours, &bench.owned);
        let crate::answer::Outcome::Event(event) = outcome else {
            panic!("{outcome:?}");
        };
        bench.event(event);
        assert_eq!(bench.send_to(who), Some(Resolution::Reachable(PEER)));
        // The peer knows us too, from the question.
        let mut peer = Resolver::new(ResolverConfig::default());
        peer.set_vlans(&table, &owned, bench.now);
        peer.on_event(learned, bench.now);
        assert_eq!(peer.snapshot()[0].mac, Some(OURS));
    }
}
