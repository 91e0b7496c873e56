//! What a test is: who sends what to whom, and what should become of it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use net::{MacAddr, VlanId};

use super::addresses::AddressRange;
use super::check::{Envelope, Members, Snat};
use super::client::{Client, ClientConfig, Order, Swap};
use super::engine::Engine;
use super::flows::{Flows, FlowsError, Proto};
use super::frame::{Ethernet, TTL};
use super::link::Link;
use super::mix::Mix;
use super::neighbor::Station;
use super::server::{Server, ServerConfig};

/// What the device under test does with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Balances requests over members and takes their replies back.
    Balance,
    /// Passes requests on to the server side, which does not answer.
    OneWay,
    /// Sends frames back by the port they came from.
    Loop(Swap),
}

/// One side of the device under test.
#[derive(Debug, Clone)]
pub struct Side {
    /// Our station there.
    pub mac: MacAddr,
    /// Tag of all frames.
    pub vlan: Option<VlanId>,
    /// The device's addresses there; one of them is asked for its station.
    pub gateways: Vec<IpAddr>,
    /// The device's station, if nobody is to be asked.
    pub gateway_mac: Option<MacAddr>,
    /// More addresses of ours that are answered for; the first of a family asks.
    pub addresses: Vec<AddressRange>,
}

/// A test.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What the device does.
    pub mode: Mode,
    /// Protocol of all flows.
    pub proto: Proto,
    /// How many flows.
    pub flows: u32,
    /// In which order they send.
    pub order: Order,
    /// Frame sizes; frames that have no room for their stamp are larger
    /// ([`least_size`](super::frame::least_size)).
    pub mix: Mix,
    /// Client addresses; the first range of each family counts.
    pub clients: Vec<AddressRange>,
    /// Client ports.
    pub client_ports: RangeInclusive<u16>,
    /// Where requests go.
    pub virtual_servers: Vec<SocketAddr>,
    /// Where they arrive.
    pub members: Vec<SocketAddr>,
    /// From whom they arrive.
    pub snat: Snat,
    /// How many hops the device takes off each packet.
    pub hops: u8,
    /// Whether TCP connections are opened before data is sent.
    pub handshake: bool,
    /// The clients' side of the device.
    pub client: Side,
    /// The servers' side of the device.
    pub server: Side,
    /// Whether a flow must keep its member and source address.
    pub sticky: bool,
    /// Seed of what is random.
    pub seed: u64,
    /// Where TCP sequence numbers begin. They should be higher in each run, as those of hosts are
    /// (RFC 9293 section 3.4.1), or a device that remembers the connections of the last run takes
    /// new ones for old.
    pub first_sequence: u32,
}

/// A test that there cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Flows that there cannot be.
    #[error(transparent)]
    Flows(#[from] FlowsError),
    /// A port for both sides, and nothing to tell them apart by.
    #[error(
        "both sides share a port: give them different VLANs, or different MAC addresses with \
         --client-mac and --server-mac"
    )]
    Indistinct,
    /// Nobody to send to.
    #[error(
        "the device's station on the clients' side is not known: give its address with --gateway, \
         or its MAC address with --gateway-mac"
    )]
    NoGateway,
    /// Nowhere for requests to arrive.
    #[error("no member of the family of the virtual server {0}: give them with --member")]
    NoMember(SocketAddr),
    /// The hop limit would be used up.
    #[error("{0} hops are more than packets survive")]
    Hops(u8),
}

impl Setup {
    #[expect(clippy::unused_self, reason = "reads better as a method")]
    const fn link(&self, side: &Side, peer: MacAddr) -> Ethernet {
        Ethernet {
            own: side.mac,
            peer,
            vlan: side.vlan,
        }
    }

    /// Whether there are two sides, each with frames of its own.
    const fn two_sided(&self) -> bool {
        !matches!(self.mode, Mode::Loop(_))
    }

    /// Where requests may arrive.
    fn arrivals(&self) -> &[SocketAddr] {
        if self.members.is_empty() && self.mode == Mode::OneWay {
            &self.virtual_servers
        } else {
            &self.members
        }
    }

    fn make_flows(&self) -> Result<Flows, FlowsError> {
        Flows::new(
            &self.clients,
            self.client_ports.clone(),
            &self.virtual_servers,
            self.flows,
        )
    }

    /// Checks the test; `shared` if both sides use one port.
    ///
    /// Errors: see [`SetupError`].
    pub fn check(&self, shared: bool) -> Result<(), SetupError> {
        self.make_flows()?;
        if self.hops >= TTL {
            return Err(SetupError::Hops(self.hops));
        }
        if !self.two_sided() {
            return Ok(());
        }
        let same_place = self.client.vlan == self.server.vlan && self.client.mac == self.server.mac;
        if shared && same_place {
            return Err(SetupError::Indistinct);
        }
        let orphan = self
            .virtual_servers
            .iter()
            .find(|s| !self.arrivals().iter().any(|m| m.is_ipv4() == s.is_ipv4()));
        if let Some(orphan) = orphan {
            return Err(SetupError::NoMember(*orphan));
        }
        if self.client.gateway_mac.is_none() && self.client.gateways.is_empty() {
            return Err(SetupError::NoGateway);
        }
        Ok(())
    }

    /// Checks the test and makes what runs it. `links` are the ports of the clients' and the servers'
    /// side, or one for both.
    ///
    /// Errors: see [`SetupError`].
    pub fn engine<L: Link>(
        &self,
        client_link: L,
        server_link: Option<L>,
    ) -> Result<Engine<L>, SetupError> {
        self.check(server_link.is_none())?;
        let flows = Arc::new(self.make_flows()?);
        let two_sided = self.two_sided();
        let members = self.arrivals().to_vec();
        let gateway = match self.client.gateway_mac {
            Some(mac) => Some(mac),
            // A device that takes any destination needs none in particular.
            None if self.client.gateways.is_empty() => Some(MacAddr([2, 0x74, 0x6d, 0x6d, 0, 0])),
            None => None,
        };
        let vid = |side: &Side| side.vlan.map_or(0, VlanId::get);
        let ttl = TTL - self.hops;
        let peer = gateway.unwrap_or(MacAddr::ZERO);
        let swap = match self.mode {
            Mode::Loop(swap) => Some(swap),
            _ => None,
        };
        let looped = swap == Some(Swap::None);
        let client_config = ClientConfig {
            ethernet: self.link(&self.client, peer),
            envelope: Envelope {
                own: if looped { peer } else { self.client.mac },
                peer: if looped {
                    Some(self.client.mac)
                } else {
                    gateway
                },
                vid: vid(&self.client),
                ttl,
            },
            proto: self.proto,
            swap,
            handshake: self.handshake && self.mode == Mode::Balance,
            order: self.order,
            seed: self.seed,
            first_sequence: self.first_sequence,
        };
        let mix = self.mix.clone();
        let client = Client::new(client_config, Arc::clone(&flows), &mix);
        let server_config = ServerConfig {
            envelope: Envelope {
                own: self.server.mac,
                peer: self.server.gateway_mac,
                vid: vid(&self.server),
                ttl,
            },
            proto: self.proto,
            members: Members::new(&members),
            snat: self.snat.clone(),
            sticky: self.sticky,
            replies: self.mode == Mode::Balance,
            payloads: client.payloads(),
        };
        let server = Server::new(server_config, flows);
        let mut at_client = self.client.addresses.clone();
        at_client.extend(&self.clients);
        let mut at_server = self.server.addresses.clone();
        at_server.extend(members.iter().map(|m| AddressRange::one(m.ip())));
        at_server.dedup();
        let stations = [
            Station::new(
                self.link(&self.client, peer),
                at_client,
                self.client.gateways.clone(),
            ),
            Station::new(
                self.link(&self.server, MacAddr::ZERO),
                at_server,
                self.server.gateways.clone(),
            ),
        ];
        Ok(Engine::new(
            client_link,
            server_link,
            client,
            server,
            stations,
            mix,
            gateway.is_some(),
            (vid(&self.client), vid(&self.server)),
            (two_sided, self.server.mac),
        ))
    }
}
