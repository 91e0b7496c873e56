//! Whether what leaves by a port says truly whose it is: the port's own MAC address, or its LAG's.

use dataplane::memory::MemoryFrame;
use dataplane::port::Frame;
use dataplane::rig::{Rig, port_mac};
use net::{Layers, MacAddr, Network, PortId};

/// What a frame that left by `port` claims falsely: to come from another MAC address than that of the
/// port (of the first port of a LAG), or, in ARP and neighbour discovery, that we have another.
pub fn falsehood(rig: &Rig, port: PortId, frame: &MemoryFrame) -> Option<String> {
    let mut frame = frame.clone();
    let packet = frame.packet();
    let layers = Layers::parse(&packet).ok()?;
    let octets = packet.data();
    let (source, _) = net::emit::macs(octets);
    let control = rig.control();
    let tables = control.tables();
    let vlan = tables.vlans.demux(port, layers.encap)?;
    let bonded = control.config().vlan(&vlan.name)?.bonded;
    let speaker = if bonded { *vlan.ports.first()? } else { port };
    let own = port_mac(speaker);
    if source != own {
        return Some(format!("{port} sends from {source}, not from {own}"));
    }
    let said = said_of_us(octets, &layers)?;
    (said != own).then(|| format!("{port} says we are at {said}, not at {own}"))
}

/// The MAC address that ARP and neighbour discovery say we have.
fn said_of_us(octets: &[u8], layers: &Layers) -> Option<MacAddr> {
    let at = match (layers.network, layers.icmp_type) {
        (Network::Arp, _) => layers.l3 + 8,
        // The only option is the one behind the target.
        (Network::Ipv6, 135 | 136) => layers.l4 + 26,
        _ => return None,
    };
    Some(MacAddr(*octets.get(at..)?.first_chunk::<6>()?))
}
