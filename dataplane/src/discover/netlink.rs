//! Questions and orders to the kernel about its interfaces, in their own order and without waiting.

use std::io;
use std::net::IpAddr;

use net::MacAddr;
use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoData, InfoMacVlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// From the kernel's headers: the table of a route's own addresses, and attributes of an interface.
const LOCAL_TABLE: u32 = 255;
const MAIN_TABLE: u32 = 254;
const IFLA_INET_CONF: u16 = 1;
const NESTED: u16 = 0x8000;
const DEVCONF_FORWARDING: u16 = 1;
const DEVCONF_ARP_IGNORE: u16 = 19;

/// One interface of the kernel's in this network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags, each for itself"
)]
pub struct Netdev {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where it is an Ethernet one.
    pub mac: Option<MacAddr>,
    /// What it is, such as `veth` or `macvlan`; empty for hardware.
    pub kind: String,
    /// Whether frames on it are Ethernet frames.
    pub ethernet: bool,
    /// Whether it is loopback.
    pub loopback: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier too.
    pub running: bool,
    /// Whether it was told to take in frames for any address.
    pub promiscuous: bool,
    /// Whether it was told to take in frames for any group.
    pub all_multicast: bool,
    /// Its MTU, octets.
    pub mtu: u32,
    /// The largest it takes, where the kernel says so.
    pub max_mtu: Option<u32>,
    /// The bridge or bond it belongs to.
    pub controller: Option<u32>,
    /// Whether a macvlan hands everything on its parent to this interface alone.
    pub passthru: bool,
    /// How it makes IPv6 addresses of its own; `None` without IPv6.
    pub addr_gen_mode: Option<u8>,
    /// Its IPv4 settings `arp_ignore` and `forwarding`.
    pub inet: Option<(i32, i32)>,
}

/// A conversation with the kernel.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Begins one.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and gives what comes back until its end.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        let mut answers = Vec::new();
        loop {
            let (octets, _) = self.socket.recv_from_full()?;
            let mut rest = octets.as_slice();
            while let Some(length) = message_length(rest) {
                let (one, others) = rest.split_at(length);
                // Messages are aligned to four octets.
                rest = others
                    .get(length.next_multiple_of(4) - length..)
                    .unwrap_or_default();
                let Ok(answer) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else {
                    tracing::debug!("an answer of the kernel's is not understood and left out");
                    continue;
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }

    /// Gives an order and waits until it is carried out.
    fn order(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// All interfaces of this network namespace, by number.
    pub fn netdevs(&mut self) -> io::Result<Vec<Netdev>> {
        let answers = self.ask(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )?;
        let mut found: Vec<Netdev> = answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(netdev(&link)),
                _ => None,
            })
            .collect();
        found.sort_by_key(|netdev| netdev.index);
        Ok(found)
    }

    /// The addresses of an interface, in the kernel's order.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let answers = self.ask(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            NLM_F_DUMP,
        )?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => Some(address),
                _ => None,
            })
            .filter(|address| address.header.index == index)
            .collect())
    }

    /// The routes of all tables but the kernel's own.
    pub fn routes(&mut self) -> io::Result<Vec<RouteMessage>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers = self.ask(RouteNetlinkMessage::GetRoute(request), NLM_F_DUMP)?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if table(&route) != LOCAL_TABLE => Some(route),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Adds an address, or puts its lifetimes right if it is there.
    pub fn add_address(&mut self, address: AddressMessage) -> io::Result<()> {
        self.order(
            RouteNetlinkMessage::NewAddress(address),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Takes an address away.
    pub fn delete_address(&mut self, address: AddressMessage) -> io::Result<()> {
        self.order(RouteNetlinkMessage::DelAddress(address), 0)
    }

    /// Adds a route, or replaces the same one.
    pub fn add_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.order(
            RouteNetlinkMessage::NewRoute(route),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Takes a route away.
    pub fn delete_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.order(RouteNetlinkMessage::DelRoute(route), 0)
    }

    /// Sets the MTU of an interface.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::Mtu(mtu)])
    }

    /// Sets flags of an interface, up or promiscuous, to what they are in `values`.
    pub fn set_flags(&mut self, index: u32, which: LinkFlags, values: LinkFlags) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = values;
        link.header.change_mask = which;
        self.order(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Sets `arp_ignore` and `forwarding` of an interface. Other than by sysctl, this works where
    /// `/proc/sys` is read-only.
    pub fn set_inet(&mut self, index: u32, (arp_ignore, forwarding): (i32, i32)) -> io::Result<()> {
        let settings = [
            (DEVCONF_ARP_IGNORE, arp_ignore),
            (DEVCONF_FORWARDING, forwarding),
        ];
        let mut octets = Vec::new();
        for (kind, value) in settings {
            let nla = DefaultNla::new(kind, value.to_ne_bytes().to_vec());
            octets.extend(emitted(&nla));
        }
        let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NESTED, octets));
        let spec = AfSpecUnspec::Inet(vec![conf]);
        self.set(index, vec![LinkAttribute::AfSpecUnspec(vec![spec])])
    }

    /// Sets how an interface makes IPv6 addresses of its own (1: not at all).
    pub fn set_addr_gen_mode(&mut self, index: u32, mode: u8) -> io::Result<()> {
        let mode = AfSpecInet6::AddrGenMode(mode.into());
        let spec = AfSpecUnspec::Inet6(vec![mode]);
        self.set(index, vec![LinkAttribute::AfSpecUnspec(vec![spec])])
    }

    fn set(&mut self, index: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        self.order(RouteNetlinkMessage::SetLink(link), 0)
    }
}

/// A message or attribute as the kernel takes it.
pub fn emitted(what: &impl Emitable) -> Vec<u8> {
    let mut octets = vec![0; what.buffer_len()];
    what.emit(&mut octets);
    octets
}

/// The length of the message at the beginning of `octets`, if there is a whole one.
fn message_length(octets: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(*octets.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    (16..=octets.len()).contains(&length).then_some(length)
}

fn netdev(link: &LinkMessage) -> Netdev {
    let flags = link.header.flags;
    let mut found = Netdev {
        index: link.header.index,
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        promiscuous: flags.contains(LinkFlags::Promisc),
        all_multicast: flags.contains(LinkFlags::Allmulti),
        ..Netdev::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(octets) => {
                found.mac = octets.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::MaxMtu(mtu) => found.max_mtu = Some(*mtu).filter(|mtu| *mtu > 0),
            LinkAttribute::Controller(index) => found.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| match info {
                LinkInfo::Kind(kind) => found.kind = kind.to_string(),
                LinkInfo::Data(InfoData::MacVlan(data)) => {
                    let passthru = InfoMacVlan::Mode(MacVlanMode::Passthrough);
                    found.passthru = data.contains(&passthru);
                }
                _ => {}
            }),
            LinkAttribute::AfSpecUnspec(specs) => specs.iter().for_each(|spec| match spec {
                AfSpecUnspec::Inet(inet) => inet.iter().for_each(|spec| {
                    if let AfSpecInet::DevConf(conf) = spec {
                        found.inet = Some((conf.arp_ignore, conf.forwarding));
                    }
                }),
                AfSpecUnspec::Inet6(inet6) => inet6.iter().for_each(|spec| {
                    if let AfSpecInet6::AddrGenMode(mode) = spec {
                        found.addr_gen_mode = Some(u8::from(mode));
                    }
                }),
                _ => {}
            }),
            _ => {}
        }
    }
    found
}

/// The table a route is in.
fn table(route: &RouteMessage) -> u32 {
    let given = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    given.unwrap_or(u32::from(route.header.table))
}

/// Whether a route leads out by an interface, alone or among others.
pub fn leaves_by(route: &RouteMessage, index: u32) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == index,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
        _ => false,
    })
}

/// Whether a route is a default route of the main table.
pub fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && table(route) == MAIN_TABLE
}

/// An address as people write it, such as `192.0.2.1/24`.
pub fn address_text(address: &AddressMessage) -> String {
    let (mut local, mut peer) = (None, None);
    for attribute in &address.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => peer = Some(ip),
            _ => {}
        }
    }
    let ip: Option<&IpAddr> = local.or(peer);
    ip.map_or_else(String::new, |ip| {
        format!("{ip}/{}", address.header.prefix_len)
    })
}
