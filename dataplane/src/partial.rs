//! Checksums that the sender left to a device that is none: a virtual machine or container on this
//! machine hands its packets on with only the pseudo-header summed up (virtio's partial checksums).
//! Translation adjusts checksums by difference, so they must be whole before the pipeline.

use net::{Fragment, IpProto, Layers, Network, Packet, RxChecksum, emit};

/// Where the field is in a TCP and in a UDP header, octets.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Fills in the checksums of `packet` that the device says are absent from an intact packet: the
/// IPv4 header's (`ip`) and that of TCP or UDP (`l4`). They count as good then.
///
/// What cannot be read is left as it is, for the pipeline to drop by its own reason. A UDP datagram
/// without checksum (RFC 768) keeps none: a partial one is never zero.
pub fn complete(packet: &mut Packet<'_>, ip: bool, l4: bool) {
    let said = packet.rx;
    // Parsed as if the checksums were right already.
    for (absent, status) in [
        (ip, &mut packet.rx.ip_checksum),
        (l4, &mut packet.rx.l4_checksum),
    ] {
        if absent {
            *status = RxChecksum::Good;
        }
    }
    let done = match Layers::parse(packet) {
        Ok(layers) => {
            (!ip || fill_header(packet, &layers)) && (!l4 || fill_transport(packet, &layers))
        }
        Err(_) => false,
    };
    if !done {
        packet.rx = said;
    }
}

/// Fills in an IPv4 header's checksum; others have none.
fn fill_header(packet: &mut Packet<'_>, layers: &Layers) -> bool {
    if layers.network != Network::Ipv4 {
        return true;
    }
    let Some(header) = packet.data_mut().get_mut(layers.l3..layers.l4) else {
        return false;
    };
    set(header, 10, net::checksum::of)
}

fn fill_transport(packet: &mut Packet<'_>, layers: &Layers) -> bool {
    if layers.fragment != Fragment::Whole {
        return false;
    }
    let Some(segment) = packet.data_mut().get_mut(layers.l4..layers.end) else {
        return false;
    };
    let sum = |segment: &[u8]| emit::transport_checksum(&layers.key, segment);
    match layers.key.proto {
        IpProto::TCP => set(segment, TCP_CHECKSUM, sum),
        IpProto::UDP => {
            let Some([high, low, field @ ..]) = segment.get(4..8) else {
                return false;
            };
            if field == [0, 0] {
                return true;
            }
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            segment
                .get_mut(..len)
                .is_some_and(|datagram| set(datagram, UDP_CHECKSUM, sum))
        }
        // Devices leave no others out.
        _ => false,
    }
}

/// Sets the checksum field at `at` to the checksum of `data` without it.
fn set(data: &mut [u8], at: usize, sum: impl FnOnce(&[u8]) -> u16) -> bool {
    if data.len() < at + 2 {
        return false;
    }
    data[at..at + 2].fill(0);
    let sum = sum(data).to_be_bytes();
    data[at..at + 2].copy_from_slice(&sum);
    true
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;
