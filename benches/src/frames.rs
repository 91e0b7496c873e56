//! Frames made on the spot: a template in the first-level cache, and a descriptor of eight octets
//! for each flow.
//!
//! A device writes frames into buffers that are in the cache when the worker reads them. A bench
//! that copies them from a gigabyte of templates would measure that gigabyte instead. So frames are
//! made from what differs between flows, which is read in sequence; making them is timed by itself.

use net::emit::{TcpFields, ethernet, tcp, udp};
use net::header::tcp_flags::{ACK, SYN};
use net::{Encap, FlowKey, IpProto, L4Port, VlanId};

use crate::site::{
    self, CLIENT_MAC, EXTERNAL_TAG, INTERNAL_TAG, Layout, MEMBER_PORT, PORT_MACS, SERVER_MAC,
    SERVICE_PORT,
};

/// Room in front of a frame, as an mbuf has it.
pub const HEADROOM: usize = 128;
/// A buffer for one frame.
pub type Buffer = [u8; 256];

/// What differs between the flows of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// The flow's number: client address, client port and virtual server follow from it.
    pub client: u32,
    /// The port that the source was translated to.
    pub sport: u16,
    /// The member that serves it.
    pub member: u16,
}

/// Who sent a frame, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The client's first: SYN or datagram.
    Opening,
    /// The server's first: SYN and ACK, or datagram.
    Answer,
    /// The client's of an established flow: ACK or datagram.
    Request,
    /// The server's of an established flow.
    Reply,
}

impl Kind {
    /// Whether it comes from the client.
    pub const fn from_client(self) -> bool {
        matches!(self, Self::Opening | Self::Request)
    }
}

/// Makes frames of one kind.
#[derive(Debug, Clone)]
pub struct Maker {
    template: Vec<u8>,
    kind: Kind,
    v6: bool,
    udp: bool,
    virtual_servers: u32,
    snat: bool,
    ip_sum: u32,
    l4_sum: u32,
    l3: usize,
    l4: usize,
}

impl Maker {
    /// For frames of the flows of `layout`.
    pub fn new(layout: &Layout, kind: Kind) -> Self {
        let v6 = layout.traffic.v6;
        let proto = layout.traffic.proto;
        let client = site::client_addr(v6, 0);
        let virtual_server = site::virtual_addr(v6, 0);
        let member = site::member_addr(v6, 0);
        let seen_by_member = if layout.traffic.snat {
            site::self_addr(v6)
        } else {
            client
        };
        let key = if kind.from_client() {
            FlowKey::new(
                client,
                virtual_server,
                L4Port(0),
                L4Port(SERVICE_PORT),
                proto,
            )
        } else {
            FlowKey::new(
                member,
                seen_by_member,
                L4Port(MEMBER_PORT),
                L4Port(0),
                proto,
            )
        };
        let (flags, seq, ack) = match kind {
            Kind::Opening => (SYN, 100, 0),
            Kind::Answer => (SYN | ACK, 500, 101),
            Kind::Request => (ACK, 101, 501),
            Kind::Reply => (ACK, 501, 101),
        };
        let l3 = if proto == IpProto::TCP {
            let fields = TcpFields {
                seq,
                ack,
                flags,
                window: 65_535,
            };
            tcp(&key, fields, &[])
        } else {
            udp(&key, &[0; 12])
        };
        let (dst, src, tag) = if kind.from_client() {
            (PORT_MACS[0], CLIENT_MAC, EXTERNAL_TAG)
        } else {
            let port = usize::from(!layout.one_arm);
            (PORT_MACS[port], SERVER_MAC, INTERNAL_TAG)
        };
        let encap = VlanId::new(tag).map_or(Encap::UNTAGGED, Encap::tagged);
        let ethertype = if v6 { 0x86dd } else { 0x0800 };
        let mut template = ethernet(dst, src, encap, ethertype, &l3);
        template.resize(template.len().max(60), 0);
        let l3 = encap.header_len();
        let l4 = l3 + if v6 { 40 } else { 20 };
        let mut maker = Self {
            template,
            kind,
            v6,
            udp: proto != IpProto::TCP,
            virtual_servers: layout.virtual_servers,
            snat: layout.traffic.snat,
            ip_sum: 0,
            l4_sum: 0,
            l3,
            l4,
        };
        maker.take_out_variables();
        maker
    }

    /// Octets of every frame, without FCS.
    pub fn len(&self) -> usize {
        self.template.len()
    }

    /// Never: a frame has headers.
    pub fn is_empty(&self) -> bool {
        self.template.is_empty()
    }

    /// Which frames it makes.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Moves what differs between flows, and the checksums, out of the template; what is left of
    /// the checksums is kept as sums to add to.
    fn take_out_variables(&mut self) {
        let (src, dst) = self.address_offsets();
        let check = self.check_offset();
        self.l4_sum = u32::from(!get(&self.template, check));
        for at in [src, dst] {
            for at in [at, at + 2] {
                self.l4_sum += u32::from(!get(&self.template, at));
            }
        }
        self.ip_sum = self.l4_sum;
        if !self.v6 {
            self.ip_sum = u32::from(!get(&self.template, self.l3 + 10));
            for at in [src, dst] {
                for at in [at, at + 2] {
                    self.ip_sum += u32::from(!get(&self.template, at));
                }
            }
        }
    }

    const fn address_offsets(&self) -> (usize, usize) {
        if self.v6 {
            (self.l3 + 8 + 12, self.l3 + 24 + 12)
        } else {
            (self.l3 + 12, self.l3 + 16)
        }
    }

    const fn check_offset(&self) -> usize {
        self.l4 + if self.udp { 6 } else { 16 }
    }

    /// Writes a frame of `flow` into a buffer, behind [`HEADROOM`]. Returns its length.
    #[inline]
    pub fn make(&self, buffer: &mut Buffer, flow: Flow) -> usize {
        let len = self.template.len();
        let frame = &mut buffer[HEADROOM..HEADROOM + len];
        frame.copy_from_slice(&self.template);
        let client = site::client_low(flow.client);
        let (src, dst, varying_port, port_at) = if self.kind.from_client() {
            let virtual_server = if self.virtual_servers == 1 {
                0
            } else {
                flow.client % self.virtual_servers
            };
            let dst = site::virtual_low(virtual_server);
            (client, dst, site::client_port(flow.client), self.l4)
        } else {
            let seen = if self.snat { site::self_low() } else { client };
            let src = site::member_low(u32::from(flow.member));
            (src, seen, flow.sport, self.l4 + 2)
        };
        let (src_at, dst_at) = self.address_offsets();
        frame[src_at..src_at + 4].copy_from_slice(&src.to_be_bytes());
        frame[dst_at..dst_at + 4].copy_from_slice(&dst.to_be_bytes());
        frame[port_at..port_at + 2].copy_from_slice(&varying_port.to_be_bytes());
        let addresses = (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
        if !self.v6 {
            let sum = !fold(self.ip_sum + addresses);
            frame[self.l3 + 10..self.l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        let mut sum = !fold(self.l4_sum + addresses + u32::from(varying_port));
        if self.udp && sum == 0 {
            sum = 0xffff;
        }
        let check = self.check_offset();
        frame[check..check + 2].copy_from_slice(&sum.to_be_bytes());
        len
    }
}

fn get(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// One's complement: the 16-bit sum of what adds up to `sum`.
#[inline]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let folded = sum as u16;
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Traffic;
    use net::{Layers, Packet, RxMeta};

    const KINDS: [Kind; 4] = [Kind::Opening, Kind::Answer, Kind::Request, Kind::Reply];

    fn flows() -> impl Iterator<Item = Flow> {
        (0..3000u32).map(|n| Flow {
            client: n.wrapping_mul(7919) & 0x00ff_ffff,
            sport: u16::try_from(n.wrapping_mul(40_503) & 0xffff).unwrap(),
            member: u16::try_from(n % 512).unwrap(),
        })
    }

    #[test]
    fn every_frame_that_is_made_is_what_the_parser_calls_sound_and_has_the_tuple_of_its_flow() {
        for (name, traffic) in Traffic::ALL {
            for virtual_servers in [1, 7] {
                let layout = Layout {
                    virtual_servers,
                    ..Layout::for_flows(traffic, 1)
                };
                for kind in KINDS {
                    let maker = Maker::new(&layout, kind);
                    let mut buffer: Buffer = [0xa5; 256];
                    for flow in flows() {
                        let len = maker.make(&mut buffer, flow);
                        let packet = Packet::new(&mut buffer, HEADROOM, len, RxMeta::default());
                        // Checks every length and checksum.
                        let layers = Layers::parse(&packet)
                            .unwrap_or_else(|error| panic!("{name} {kind:?} {flow:?}: {error}"));
                        assert_eq!(layers.key, expected(&layout, kind, flow));
                    }
                }
            }
        }
    }

    fn expected(layout: &Layout, kind: Kind, flow: Flow) -> FlowKey {
        let v6 = layout.traffic.v6;
        let proto = layout.traffic.proto;
        if kind.from_client() {
            let number = flow.client % layout.virtual_servers;
            FlowKey::new(
                site::client_addr(v6, flow.client),
                site::virtual_addr(v6, number),
                L4Port(site::client_port(flow.client)),
                L4Port(SERVICE_PORT),
                proto,
            )
        } else {
            FlowKey::new(
                site::member_addr(v6, u32::from(flow.member)),
                site::self_addr(v6),
                L4Port(MEMBER_PORT),
                L4Port(flow.sport),
                proto,
            )
        }
    }

    #[test]
    fn no_two_flows_have_one_tuple() {
        let mut seen = std::collections::HashSet::new();
        for flow in 0..200_000 {
            let tuple = (site::client_low(flow), site::client_port(flow));
            assert!(seen.insert(tuple), "flow {flow}");
        }
    }
}
