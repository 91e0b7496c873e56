//! Both sides on their links: what is received goes to the side it belongs to, what is due is sent.

use net::{MacAddr, Timestamp};

use super::client::Client;
use super::counters::Counters;
use super::link::{Buffer, Burst, Link};
use super::mix::Mix;
use super::neighbor::Station;
use super::seen::{Parsed, parse};
use super::server::Server;

/// How the two sides are told apart on a shared link.
#[derive(Debug, Clone, Copy)]
struct Divide {
    /// Whether there is a server side at all.
    two_sided: bool,
    client_vid: u16,
    server_vid: u16,
    server_mac: MacAddr,
}

/// Both sides of a test and the links they use.
pub struct Engine<L: Link> {
    ports: Vec<Port<L>>,
    client: Client,
    server: Server,
    /// Of the clients' and of the servers' side.
    stations: [Station; 2],
    mix: Mix,
    gateway_known: bool,
    divide: Divide,
}

/// A link and what waits on it to be sent.
struct Port<L: Link> {
    link: L,
    received: Burst<L::Frame>,
    /// Answers; nothing more is received until they are taken.
    answers: Burst<L::Frame>,
    /// Frames of the clients'.
    requests: Burst<L::Frame>,
    done: Burst<L::Frame>,
}

impl<L: Link> Port<L> {
    fn new(link: L) -> Self {
        Self {
            link,
            received: Burst::new(),
            answers: Burst::new(),
            requests: Burst::new(),
            done: Burst::new(),
        }
    }
}

impl<L: Link> Engine<L> {
    #[expect(
        clippy::too_many_arguments,
        reason = "made in one place, from a checked setup"
    )]
    pub(super) fn new(
        client_link: L,
        server_link: Option<L>,
        client: Client,
        server: Server,
        stations: [Station; 2],
        mix: Mix,
        gateway_known: bool,
        (client_vid, server_vid): (u16, u16),
        (two_sided, server_mac): (bool, MacAddr),
    ) -> Self {
        let mut ports = vec![Port::new(client_link)];
        ports.extend(server_link.map(Port::new));
        Self {
            ports,
            client,
            server,
            stations,
            mix,
            gateway_known,
            divide: Divide {
                two_sided,
                client_vid,
                server_vid,
                server_mac,
            },
        }
    }

    /// The clients' side.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The clients' side, to be told what to do.
    pub const fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The servers' side.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The servers' side, to be told what to do.
    pub const fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The counters of the clients' and of the servers' side.
    pub const fn counters(&self) -> (Counters, Counters) {
        (*self.client.counters(), *self.server.counters())
    }

    /// Whether the device's station on the clients' side is known.
    pub const fn gateway_known(&self) -> bool {
        self.gateway_known
    }

    /// The sizes that are sent.
    pub const fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Whether the servers' side takes part.
    pub const fn is_two_sided(&self) -> bool {
        self.divide.two_sided
    }

    /// Whether frames wait that the ports did not take yet.
    pub fn has_unsent(&self) -> bool {
        self.ports
            .iter()
            .any(|port| !port.requests.is_empty() || !port.answers.is_empty())
    }

    /// Sends frames of other sizes from now on.
    pub fn set_mix(&mut self, mix: &Mix) {
        self.mix = mix.clone();
        self.client.set_mix(mix);
        self.server.set_payloads(self.client.payloads());
    }

    /// Asks for the device's station, on both sides, where an address to ask for was given.
    pub fn ask(&mut self) {
        let last = self.ports.len() - 1;
        for (side, station) in self.stations.iter().enumerate() {
            let port = &mut self.ports[side.min(last)];
            for question in station.questions() {
                push(&mut port.link, &mut port.answers, &question);
            }
            port.link.transmit(&mut port.answers);
        }
    }

    /// Receives, answers and sends once. `clock` is asked for the time before receiving and before
    /// sending; the latter is returned.
    #[inline]
    pub fn turn(&mut self, mut clock: impl FnMut() -> Timestamp) -> Timestamp {
        let now = clock();
        for index in 0..self.ports.len() {
            self.receive(index, now);
        }
        let now = clock();
        let port = &mut self.ports[0];
        if port.requests.is_empty() {
            self.client.produce(now, &mut port.link, &mut port.requests);
        }
        if !port.requests.is_empty() {
            port.link.transmit(&mut port.requests);
        }
        now
    }

    #[inline]
    fn receive(&mut self, index: usize, now: Timestamp) {
        let shared = self.ports.len() == 1;
        let port = &mut self.ports[index];
        if !port.answers.is_empty() {
            port.link.transmit(&mut port.answers);
            if !port.answers.is_empty() {
                return;
            }
        }
        if !self.client.may_receive() {
            return;
        }
        port.link.receive(&mut port.received);
        if port.received.is_empty() {
            return;
        }
        for mut frame in port.received.drain(..) {
            let octets = frame.octets_mut();
            let parsed = parse(octets);
            let at_server = if shared {
                self.divide.two_sided && self.divide.is_servers(octets)
            } else {
                index == 1
            };
            let mut is_answer = false;
            match parsed {
                Parsed::Packet(seen) if at_server => {
                    is_answer = self.server.packet(octets, &seen, now);
                }
                Parsed::Packet(seen) => self.client.packet(octets, &seen, now),
                Parsed::Neighbor => {
                    let station = &mut self.stations[usize::from(at_server)];
                    let answer = station.handle(octets);
                    let counters = if at_server {
                        self.server.counters_mut()
                    } else {
                        self.client.counters_mut()
                    };
                    if let Some(answer) = answer
                        && frame.set_len(answer.len())
                    {
                        frame.octets_mut().copy_from_slice(&answer);
                        counters.neighbor_answers += 1;
                        is_answer = true;
                    }
                }
                Parsed::Icmp if at_server => self.server.counters_mut().icmp += 1,
                Parsed::Icmp => self.client.counters_mut().icmp += 1,
                Parsed::Foreign if at_server => self.server.counters_mut().foreign += 1,
                Parsed::Foreign => self.client.counters_mut().foreign += 1,
                Parsed::Malformed if at_server => self.server.malformed(octets),
                Parsed::Malformed => self.client.malformed(octets),
            }
            // As many fit as were received.
            if is_answer {
                port.answers.push(frame);
            } else {
                port.done.push(frame);
            }
        }
        if !port.answers.is_empty() {
            port.link.transmit(&mut port.answers);
        }
        if !port.done.is_empty() {
            port.link.release(&mut port.done);
        }
        if !self.gateway_known
            && let Some(mac) = self.stations[0].learned()
        {
            self.gateway_known = true;
            self.client.set_gateway(mac, &self.mix);
        }
    }
}

impl Divide {
    /// Whether a frame belongs to the servers' side of a shared link.
    fn is_servers(&self, frame: &[u8]) -> bool {
        if self.client_vid == self.server_vid {
            return frame.first_chunk::<6>() == Some(&self.server_mac.0);
        }
        let tagged = frame.get(12..14) == Some(&[0x81, 0x00]);
        let vid = match frame.get(14..16) {
            Some(tci) if tagged => u16::from_be_bytes([tci[0], tci[1]]) & 0x0fff,
            _ => 0,
        };
        vid == self.server_vid
    }
}

/// Appends a frame of these octets, if there is a buffer for it.
fn push<L: Link>(link: &mut L, out: &mut Burst<L::Frame>, octets: &[u8]) {
    let before = out.len();
    link.allocate(out, 1);
    if out.len() > before
        && let Some(frame) = out.last_mut()
        && frame.set_len(octets.len())
    {
        frame.octets_mut().copy_from_slice(octets);
    }
}
