//! Two real TCP stacks on tagged wires around a whole tmm, and wires that lose, repeat, delay and
//! reorder frames.

use std::collections::VecDeque;
use std::time::Duration;

use dataplane::memory::MemoryFrame;
use dataplane::rig::{Rig, RigConfig};
use net::{PortId, Timestamp};
use serde_json::Value;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

/// How bad a wire is, in permille of frames; and how long a late one takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quality {
    pub lost: u64,
    pub repeated: u64,
    pub late: u64,
    pub longest: Duration,
}

/// `xorshift64*`: the same seed gives the same bad luck.
pub struct Luck(u64);

impl Luck {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n.max(1)
    }
}

/// One direction of a wire.
#[derive(Default)]
struct Wire {
    on_the_way: Vec<(Timestamp, u64, Vec<u8>)>,
    count: u64,
}

impl Wire {
    fn carry(&mut self, frame: &[u8], quality: &Quality, luck: &mut Luck, now: Timestamp) {
        if luck.below(1000) < quality.lost {
            return;
        }
        let copies = 1 + u32::from(luck.below(1000) < quality.repeated);
        for _ in 0..copies {
            let mut due = now + Duration::from_micros(100);
            if luck.below(1000) < quality.late {
                due = due + Duration::from_micros(luck.below(quality.longest.as_micros() as u64));
            }
            self.count += 1;
            self.on_the_way.push((due, self.count, frame.to_vec()));
        }
    }

    /// What has arrived by now, in order of arrival.
    fn arrived(&mut self, now: Timestamp) -> Vec<Vec<u8>> {
        self.on_the_way
            .sort_by_key(|(due, count, _)| (*due, *count));
        let late = self.on_the_way.partition_point(|(due, ..)| *due <= now);
        self.on_the_way
            .drain(..late)
            .map(|(_, _, frame)| frame)
            .collect()
    }

    fn next(&self) -> Option<Timestamp> {
        self.on_the_way.iter().map(|(due, ..)| *due).min()
    }
}

/// A network card in memory.
#[derive(Default)]
struct Card {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Card {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((RxToken(frame), TxToken(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A host with a TCP stack of its own.
pub struct Host {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    tag: u16,
    port: PortId,
    to_tmm: Wire,
    from_tmm: Wire,
}

impl Host {
    /// A host with one address of each family; everything else is behind the first address of its
    /// network, which is tmm's.
    pub fn new(port: u8, tag: u16, station: u8, v4: [u8; 4], v6: [u16; 8]) -> Self {
        let mac = EthernetAddress([2, 0, 0, 0, 1, station]);
        let mut card = Card::default();
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = u64::from(station);
        let mut interface = Interface::new(config, &mut card, instant(START));
        let v4_address = std::net::Ipv4Addr::from(v4);
        let v6_address = std::net::Ipv6Addr::from(v6);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(IpAddress::Ipv4(v4_address), 24))
                .unwrap();
            addresses
                .push(IpCidr::new(IpAddress::Ipv6(v6_address), 64))
                .unwrap();
        });
        let gateway = [v4[0], v4[1], v4[2], 1].into();
        let mut gateway_v6 = v6;
        gateway_v6[7] = 1;
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(gateway).unwrap();
        routes.add_default_ipv6_route(gateway_v6.into()).unwrap();
        Self {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            tag,
            port: PortId(port),
            to_tmm: Wire::default(),
            from_tmm: Wire::default(),
        }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// A socket that waits for a connection.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.socket();
        self.at(handle).listen(port).unwrap();
        handle
    }

    /// A socket that connects.
    pub fn connect(&mut self, to: std::net::SocketAddr, from: u16) -> SocketHandle {
        let handle = self.socket();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, from).unwrap();
        handle
    }

    /// The socket itself.
    pub fn at(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn poll(&mut self, now: Timestamp, quality: &Quality, luck: &mut Luck) {
        self.interface
            .poll(instant(now), &mut self.card, &mut self.sockets);
        for mut frame in std::mem::take(&mut self.card.tx) {
            let tag = self.tag.to_be_bytes();
            frame.splice(12..12, [0x81, 0, tag[0], tag[1]]);
            self.to_tmm.carry(&frame, quality, luck, now);
        }
    }

    fn take(&mut self, mut frame: Vec<u8>) {
        let tag = self.tag.to_be_bytes();
        if frame[12..16] != [0x81, 0, tag[0], tag[1]] {
            assert_eq!(frame[0] & 1, 1, "sent to this host, but on another VLAN");
            return;
        }
        frame.drain(12..16);
        self.card.rx.push_back(frame);
    }

    fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let delay = self.interface.poll_delay(instant(now), &self.sockets);
        let timer = delay.map(|delay| now + Duration::from_micros(delay.total_micros()));
        [timer, self.to_tmm.next(), self.from_tmm.next()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// When the world begins.
pub const START: Timestamp = Timestamp::from_secs(1);

fn instant(now: Timestamp) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap())
}

/// Hosts, wires and tmm.
pub struct World {
    pub rig: Rig,
    pub hosts: Vec<Host>,
    pub now: Timestamp,
    quality: Quality,
    luck: Luck,
}

impl World {
    pub fn new(objects: &[Value], hosts: Vec<Host>, quality: Quality, seed: u64) -> Self {
        let mut rig = Rig::new(&RigConfig {
            seed,
            ..RigConfig::default()
        });
        rig.apply(objects).unwrap();
        rig.advance(START);
        for state in rig.states() {
            assert_eq!(state.reason(), "Programmed", "{state:?}");
        }
        Self {
            rig,
            hosts,
            now: START,
            quality,
            luck: Luck::new(seed),
        }
    }

    /// From now on nothing is lost any more; the rest stays as bad as it was.
    pub fn lose_nothing(&mut self) {
        self.quality.lost = 0;
    }

    /// Lets everything happen that is due, and goes on to the time when something is due next.
    pub fn step(&mut self) {
        let Self {
            rig,
            hosts,
            now,
            quality,
            luck,
        } = self;
        for host in hosts.iter_mut() {
            host.poll(*now, quality, luck);
            for frame in host.to_tmm.arrived(*now) {
                rig.send(host.port, MemoryFrame::new(&frame));
            }
        }
        rig.advance(*now);
        for host in hosts.iter_mut() {
            while let Some(frame) = rig.receive(host.port) {
                host.from_tmm.carry(frame.octets(), quality, luck, *now);
            }
            for frame in host.from_tmm.arrived(*now) {
                host.take(frame);
            }
        }
        let soon = *now + Duration::from_micros(50);
        let later = *now + Duration::from_millis(100);
        let due = hosts.iter_mut().filter_map(|host| host.next(*now)).min();
        *now = due.map_or(later, |due| due.max(soon).min(later));
    }
}
