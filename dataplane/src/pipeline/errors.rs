//! ICMP errors of our own, made of the packets they are about.

mod limit;

pub(super) use limit::ErrorLimit;

use net::icmp::{self, Error};
use net::{Addr, IpProto, Layers, Network, Packet, Rewrite};

use super::options::Unknown;
use super::{Arrival, Leg, State};
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, Verdict};

impl State {
    /// Turns a packet, as it came in, into the error that tells its sender why it was not passed on; or says
    /// that it is dropped for `reason`, where no error may be sent (RFC 1122 section 3.2.2, RFC 4443 section
    /// 2.4) or too many have been.
    ///
    /// The error leaves for the station that the packet came from, which knows the way.
    #[cold]
    pub(super) fn icmp_error(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        error: Error,
        reason: DropReason,
    ) -> Verdict {
        let vlan = arrival.vlan;
        let sender = &layers.key.src;
        let one_host = |addr: &Addr| !vlan.on_link(addr.ip()) || vlan.can_be_neighbor(addr.ip());
        // What came round is from one of our own addresses to another.
        let strangers = || {
            one_host(sender)
                && one_host(&layers.key.dst)
                && tables.owned.get(vlan.index, sender).is_none()
        };
        if !icmp::may_be_told_of(packet, layers) || !(arrival.round || strangers()) {
            return Verdict::Drop(reason);
        }
        let Some(source) = speaking_as(tables, arrival, layers, error) else {
            return Verdict::Drop(reason);
        };
        if !self.errors.take(sender, arrival.now) {
            self.counters.icmp_limited_total.add(1);
            return Verdict::Drop(reason);
        }
        if icmp::error_in_place(packet, layers, error, &source).is_err() {
            return Verdict::Drop(DropReason::NoRoom);
        }
        self.address_back(tables, arrival, packet, (layers.network, 0), answer(error))
    }
}

impl State {
    /// A packet that has no hop left to go. One that should not have been sent on to us is not answered.
    #[cold]
    pub(super) fn out_of_hops(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
    ) -> Verdict {
        let reason = DropReason::TtlExceeded;
        if layers.ttl == 0 {
            return Verdict::Drop(reason);
        }
        self.icmp_error(tables, arrival, packet, layers, Error::TimeExceeded, reason)
    }

    /// A packet other than TCP that nobody here takes (any more).
    #[cold]
    pub(super) fn refuse(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        reason: DropReason,
    ) -> Verdict {
        let error = match layers.key.proto {
            IpProto::UDP => Error::PortUnreachable,
            IpProto::ICMP | IpProto::ICMPV6 => return Verdict::Drop(reason),
            _ => Error::ProtocolUnreachable,
        };
        self.icmp_error(tables, arrival, packet, layers, error, reason)
    }

    /// A packet for ourselves with an IPv6 option that we do not know.
    #[cold]
    pub(super) fn unknown_option(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        unknown: Unknown,
    ) -> Verdict {
        let reason = DropReason::BadExtensionHeader;
        let Unknown::Tell(pointer) = unknown else {
            return Verdict::Drop(reason);
        };
        let error = Error::UnknownOption { pointer };
        self.icmp_error(tables, arrival, packet, layers, error, reason)
    }

    /// A packet of a flow that could not be sent on, for `reason`, after it was rewritten: what it was like
    /// is restored before its sender is told.
    #[cold]
    pub(super) fn undelivered(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        (rewrite, leg, may_choose_another): (&Rewrite, Leg, bool),
        reason: DropReason,
    ) -> Verdict {
        let error = match reason {
            DropReason::MtuExceeded => tables
                .exit(leg.vlan())
                .filter(|_| may_not_be_cut(packet, layers))
                .and_then(|exit| u16::try_from(exit.mtu).ok())
                .map(|mtu| Error::TooBig { mtu }),
            _ if may_choose_another => None,
            DropReason::NoRoute => Some(Error::NoRoute),
            DropReason::NeighborUnreachable => Some(Error::HostUnreachable),
            _ => None,
        };
        match error {
            Some(error) if rewrite.undo(packet, layers).is_ok() => {
                self.icmp_error(tables, arrival, packet, layers, error, reason)
            }
            _ => Verdict::Drop(reason),
        }
    }
}

/// Whether a packet must not be fragmented on its way.
fn may_not_be_cut(packet: &Packet<'_>, layers: &Layers) -> bool {
    const DO_NOT_FRAGMENT: u8 = 0x40;
    let flags = packet.data().get(layers.l3 + 6);
    layers.network == Network::Ipv6 || flags.is_some_and(|flags| flags & DO_NOT_FRAGMENT != 0)
}

/// The address that an error comes from: on the way, the self IP of the VLAN that the packet came in by (RFC
/// 1812 section 4.3.2.4); at the destination, that (RFC 1122 section 3.2.2, RFC 4443 section 2.2).
fn speaking_as(
    tables: &Tables,
    arrival: &Arrival<'_>,
    layers: &Layers,
    error: Error,
) -> Option<Addr> {
    let destination = &layers.key.dst;
    let arrived = matches!(
        error,
        Error::PortUnreachable | Error::ProtocolUnreachable | Error::UnknownOption { .. }
    );
    if arrived && tables.owned.get(arrival.vlan.index, destination).is_some() {
        return Some(*destination);
    }
    let source = arrival.vlan.self_ip_for(layers.key.src.ip())?;
    Some(Addr::from(source))
}

/// What is counted.
const fn answer(error: Error) -> Answer {
    match error {
        Error::TimeExceeded => Answer::TimeExceeded,
        Error::TooBig { .. } => Answer::PacketTooBig,
        Error::NoRoute => Answer::UnreachableRoute,
        Error::HostUnreachable => Answer::UnreachableHost,
        Error::PortUnreachable => Answer::UnreachablePort,
        Error::ProtocolUnreachable => Answer::UnreachableProtocol,
        Error::UnknownOption { .. } => Answer::UnknownOption,
    }
}
