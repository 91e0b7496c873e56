//! Virtual servers, and how the one that a packet is for is found.
//!
//! # Precedence
//!
//! As on BIG-IP, the most specific virtual server takes the packet:
//!
//! 1. the longest destination prefix (a host before its subnet before the wildcard);
//! 2. then an exact destination port before port 0 (all ports);
//! 3. then, of virtual servers with one destination and port, the narrowest scope of VLANs: a list
//!    of VLANs, then all but a list, then all;
//! 4. then the one that comes first in the list given to [`VirtualServers::new`].
//!
//! A virtual server that does not listen on the packet's VLAN does not take part, so a less specific
//! one that does listen there takes the packet. The protocol always has to be the same; where no virtual
//! server takes a packet by its protocol, one for [`ANY_PROTO`] may.

use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use net::{Addr, IpPrefix, IpProto, L4Port, VlanIndex};

use crate::id::{PoolId, VirtualServerId};
use crate::listen::Listen;
use crate::snat_pool::SnatPoolIndex;

/// The protocol of a virtual server that takes any which no other takes. The number is reserved (IANA), so
/// it means nothing on the wire.
pub const ANY_PROTO: IpProto = IpProto(255);

/// Translation of the client's address towards the member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Snat {
    /// The member sees the client.
    #[default]
    None,
    /// The member sees the self IP of the VLAN that the packet leaves by.
    Automap,
    /// The member sees an address of this SNAT pool.
    Pool(SnatPoolIndex),
}

/// What of a flow a translated port belongs to (RFC 4787 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mapping {
    /// The flow alone.
    #[default]
    AddressAndPortDependent,
    /// The client's address and port, towards all servers.
    EndpointIndependent,
}

/// Who may send to a translated port (RFC 4787 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filtering {
    /// The address and port that the client has sent to.
    #[default]
    AddressAndPortDependent,
    /// The address that the client has sent to.
    AddressDependent,
    /// Anybody.
    EndpointIndependent,
}

/// How source ports are translated, beyond what [`Snat`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Nat {
    /// What of a flow a port belongs to.
    pub mapping: Mapping,
    /// Who may send to it.
    pub filtering: Filtering,
    /// The most mappings of one client, where they do not depend on the flow.
    pub per_client: u32,
}

/// How a member is chosen for a new flow. The `RATIO_…` methods are these with equal ratios.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The member with the fewest live connections of this worker.
    LeastConnections,
    /// By the client's address, the same for every flow of a client as long as the pool stays the
    /// same (Maglev).
    SourceAddressHash,
}

/// What becomes of the flows of a member that went down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DownAction {
    /// They go on as they were.
    #[default]
    None,
    /// They are reset (TCP) or answered with ICMP unreachable.
    Reject,
    /// Their packets are dropped.
    Drop,
    /// They go to another member.
    Reselect,
}

/// One virtual server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualServer {
    /// Its identity over configuration generations.
    pub id: VirtualServerId,
    /// Its name, as shown to the operator.
    pub name: String,
    /// The transport protocol it serves.
    pub proto: IpProto,
    /// The addresses it serves: a host, a subnet, or all of a family (length 0).
    pub destination: IpPrefix,
    /// The port it serves; 0 = all ports.
    pub port: L4Port,
    /// The VLANs it listens on.
    pub listen: Listen,
    /// The pool it balances over.
    pub pool: PoolId,
    /// How members are chosen.
    pub method: Method,
    /// How the client's address is translated.
    pub snat: Snat,
    /// How its flows are treated.
    pub profile: Profile,
}

/// How the flows of a virtual server are treated once they are, or are to be, open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// How long a flow may be silent.
    pub idle_timeout: Duration,
    /// What becomes of the flows of a member that went down.
    pub down_action: DownAction,
    /// The most flows at a time; 0 is any number.
    pub connection_limit: u32,
    /// The most flows of one client at a time; 0 is any number.
    pub client_limit: u32,
    /// New connections per second beyond which clients must prove their address; 0 is never.
    pub syn_threshold: u32,
    /// What concerns TCP alone.
    pub tcp: TcpProfile,
    /// Packets go on to their own destination, as routes say; the pool is empty.
    pub routed: bool,
    /// How source ports are translated.
    pub nat: Nat,
    /// What concerns UDP alone.
    pub udp: UdpProfile,
    /// What concerns SCTP alone.
    pub sctp: SctpProfile,
}

/// How the TCP connections of a virtual server are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpProfile {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent that both sides are closing.
    pub close_timeout: Duration,
    /// How long one may be silent that one side has closed; `None`: as long as an open one.
    pub half_close_timeout: Option<Duration>,
    /// How long one is remembered that both sides have closed.
    pub time_wait_timeout: Duration,
    /// Whether both ends are told when a connection ends because it was silent for too long.
    pub reset_on_timeout: bool,
    /// Whether connections are taken on in their middle.
    pub loose_initialization: bool,
}

impl Default for TcpProfile {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_mins(1),
            half_close_timeout: None,
            time_wait_timeout: Duration::from_secs(10),
            reset_on_timeout: false,
            loose_initialization: false,
        }
    }
}

/// How the datagrams of a virtual server are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UdpProfile {
    /// How long a flow may be silent that was never replied to; `None`: as long as any.
    pub unreplied_timeout: Option<Duration>,
    /// Whether a member is chosen for each datagram by itself.
    pub datagram_balancing: bool,
}

/// How the associations of a virtual server are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SctpProfile {
    /// How long one may be silent that is being opened.
    pub handshake_timeout: Duration,
    /// How long one may be silent that is being shut down.
    pub shutdown_timeout: Duration,
}

impl Default for SctpProfile {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_mins(1),
        }
    }
}

impl Default for Profile {
    /// What a TCP virtual server has where nothing else is asked for: 5 minutes of silence, and flows
    /// outlive their member.
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_mins(5),
            down_action: DownAction::None,
            connection_limit: 0,
            client_limit: 0,
            syn_threshold: 0,
            tcp: TcpProfile::default(),
            routed: false,
            nat: Nat::default(),
            udp: UdpProfile::default(),
            sctp: SctpProfile::default(),
        }
    }
}

/// What an entry of the table is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    /// The masked destination; IPv4 in the last 32 bits.
    dst: u128,
    port: u16,
    /// Length of the prefix within 128 bits.
    len: u8,
    proto: IpProto,
    v4: bool,
}

/// A prefix length that some virtual server of a protocol and family has.
#[derive(Clone, Copy, Debug)]
struct Level {
    mask: u128,
    len: u8,
    exact_ports: bool,
    all_ports: bool,
}

/// The prefix lengths of one protocol and family, longest first.
#[derive(Clone, Debug)]
struct Ladder {
    proto: IpProto,
    v4: bool,
    levels: Vec<Level>,
}

/// All virtual servers of a configuration generation.
///
/// The cost of a lookup is one hash probe where the packet's host and port are those of a virtual
/// server, and at most two for each distinct prefix length otherwise; it does not depend on how many
/// virtual servers there are.
#[derive(Clone, Debug, Default)]
pub struct VirtualServers {
    servers: Vec<VirtualServer>,
    /// Where in `order` the virtual servers with one key are.
    index: HashMap<Key, (u32, u32), FixedState>,
    /// Places in `servers`, those with one key together, narrowest scope first.
    order: Vec<u32>,
    ladders: Vec<Ladder>,
    /// Places in `servers` by id, `u32::MAX` where there is none.
    by_id: Vec<u32>,
}

impl VirtualServers {
    /// The table of `servers`, in the operator's order. Two with the same id are a mistake of the
    /// caller: [`get`](Self::get) finds the first then.
    pub fn new(servers: Vec<VirtualServer>) -> Self {
        let mut table = Self::default();
        let places = || (0u32..).zip(&servers);
        let mut order: Vec<(u32, &VirtualServer)> = places().collect();
        // Stable, so the given order decides last.
        order.sort_by_key(|(_, vs)| {
            let key = key_of(vs);
            (
                key.v4,
                key.proto,
                key.len,
                key.dst,
                key.port,
                vs.listen.breadth(),
            )
        });
        for run in order.chunk_by(|a, b| key_of(a.1) == key_of(b.1)) {
            let Some((_, first)) = run.first() else {
                continue;
            };
            let start = table.order.len();
            table.order.extend(run.iter().map(|(place, _)| place));
            // More than 2^32 virtual servers do not fit into memory.
            let range = (to_u32(start), to_u32(table.order.len()));
            table.index.insert(key_of(first), range);
            table.add_level(&key_of(first));
        }
        for (place, vs) in places() {
            let at = vs.id.index();
            if at >= table.by_id.len() {
                table.by_id.resize(at + 1, u32::MAX);
            }
            if let Some(slot) = table.by_id.get_mut(at).filter(|slot| **slot == u32::MAX) {
                *slot = place;
            }
        }
        table.servers = servers;
        table
    }

    fn add_level(&mut self, key: &Key) {
        let place = self
            .ladders
            .iter()
            .position(|l| l.proto == key.proto && l.v4 == key.v4);
        let place = place.unwrap_or_else(|| {
            self.ladders.push(Ladder {
                proto: key.proto,
                v4: key.v4,
                levels: Vec::new(),
            });
            self.ladders.len() - 1
        });
        let Some(ladder) = self.ladders.get_mut(place) else {
            return;
        };
        let at = ladder.levels.partition_point(|level| level.len > key.len);
        if ladder
            .levels
            .get(at)
            .is_none_or(|level| level.len != key.len)
        {
            let level = Level {
                mask: mask(key.len),
                len: key.len,
                exact_ports: false,
                all_ports: false,
            };
            ladder.levels.insert(at, level);
        }
        if let Some(level) = ladder.levels.get_mut(at) {
            level.all_ports |= key.port == 0;
            level.exact_ports |= key.port != 0;
        }
    }

    /// The virtual server that takes a packet of protocol `proto` to `dst` and `dport` that came in
    /// by `vlan`; the module's page gives the precedence.
    #[inline]
    pub fn lookup(
        &self,
        proto: IpProto,
        dst: &Addr,
        dport: L4Port,
        vlan: VlanIndex,
    ) -> Option<&VirtualServer> {
        self.find(proto, dst, dport, |vs| vs.listen.hears(vlan))
    }

    /// The virtual server whose flow a packet may be of, though it listens on no VLAN now: as
    /// [`lookup`](Self::lookup), on any VLAN and on none.
    pub fn lookup_silent(
        &self,
        proto: IpProto,
        dst: &Addr,
        dport: L4Port,
    ) -> Option<&VirtualServer> {
        self.find(proto, dst, dport, |_| true)
    }

    #[inline]
    fn find(
        &self,
        proto: IpProto,
        dst: &Addr,
        dport: L4Port,
        takes: impl Fn(&VirtualServer) -> bool,
    ) -> Option<&VirtualServer> {
        self.find_of(proto, dst, dport, &takes)
            .or_else(|| self.find_of(ANY_PROTO, dst, dport, &takes))
    }

    #[inline]
    fn find_of(
        &self,
        proto: IpProto,
        dst: &Addr,
        dport: L4Port,
        takes: &impl Fn(&VirtualServer) -> bool,
    ) -> Option<&VirtualServer> {
        let v4 = dst.is_v4();
        let bits = u128::from_be_bytes(*dst.octets());
        let ladder = self
            .ladders
            .iter()
            .find(|l| l.proto == proto && l.v4 == v4)?;
        for level in &ladder.levels {
            let mut key = Key {
                dst: bits & level.mask,
                port: dport.0,
                len: level.len,
                proto,
                v4,
            };
            if level.exact_ports
                && dport.0 != 0
                && let Some(found) = self.probe(&key, takes)
            {
                return Some(found);
            }
            if level.all_ports {
                key.port = 0;
                if let Some(found) = self.probe(&key, takes) {
                    return Some(found);
                }
            }
        }
        None
    }

    #[inline]
    fn probe(&self, key: &Key, takes: &impl Fn(&VirtualServer) -> bool) -> Option<&VirtualServer> {
        let (start, end) = *self.index.get(key)?;
        self.order
            .get(start as usize..end as usize)?
            .iter()
            .filter_map(|place| self.servers.get(*place as usize))
            .find(|vs| takes(vs))
    }

    /// The virtual server with this id, if this generation has it.
    #[inline]
    pub fn get(&self, id: VirtualServerId) -> Option<&VirtualServer> {
        let place = *self.by_id.get(id.index())?;
        self.servers.get(place as usize)
    }

    /// All virtual servers, in the order they were given in.
    pub fn iter(&self) -> std::slice::Iter<'_, VirtualServer> {
        self.servers.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl<'a> IntoIterator for &'a VirtualServers {
    type Item = &'a VirtualServer;
    type IntoIter = std::slice::Iter<'a, VirtualServer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn key_of(vs: &VirtualServer) -> Key {
    let v4 = vs.destination.addr().is_ipv4();
    Key {
        dst: u128::from_be_bytes(*Addr::from(vs.destination.addr()).octets()),
        port: vs.port.0,
        len: vs.destination.prefix_len() + if v4 { 96 } else { 0 },
        proto: vs.proto,
        v4,
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(len.min(128)))
        .unwrap_or(0)
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
