//! Raw views of protocol headers: fields as they lie on the wire, no meaning checked.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Ethertypes the dataplane knows.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// TCP flag bits (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
}

macro_rules! views {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
    )* };
}

views! {
    /// Ethernet II, without tags.
    Ethernet {
        /// Destination station.
        dst: [u8; 6],
        /// Source station.
        src: [u8; 6],
        /// Ethertype, or the TPID of a tag.
        ethertype: U16,
    }
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp {
        /// Hardware type, 1.
        htype: U16,
        /// Protocol type, 0x0800.
        ptype: U16,
        /// Hardware address length, 6.
        hlen: u8,
        /// Protocol address length, 4.
        plen: u8,
        /// 1 request, 2 reply.
        oper: U16,
        /// Sender's MAC.
        sha: [u8; 6],
        /// Sender's address.
        spa: [u8; 4],
        /// Target's MAC.
        tha: [u8; 6],
        /// Target's address.
        tpa: [u8; 4],
    }
    /// IPv4 without options (RFC 791).
    Ipv4 {
        /// Version and header length in 32-bit words.
        version_ihl: u8,
        /// DSCP and ECN.
        tos: u8,
        /// Header and payload, octets.
        total_len: U16,
        /// Identification.
        ident: U16,
        /// Flags and fragment offset in 8-octet units.
        flags_fragment: U16,
        /// Time to live, hops.
        ttl: u8,
        /// Upper-layer protocol.
        proto: u8,
        /// Header checksum.
        checksum: U16,
        /// Source.
        src: [u8; 4],
        /// Destination.
        dst: [u8; 4],
    }
    /// IPv6 (RFC 8200).
    Ipv6 {
        /// Version, traffic class, flow label.
        version_class_flow: U32,
        /// What follows this header, octets.
        payload_len: U16,
        /// Next header.
        next: u8,
        /// Hops left.
        hop_limit: u8,
        /// Source.
        src: [u8; 16],
        /// Destination.
        dst: [u8; 16],
    }
    /// TCP without options (RFC 9293).
    Tcp {
        /// Source port.
        sport: U16,
        /// Destination port.
        dport: U16,
        /// Sequence number.
        seq: U32,
        /// Acknowledgement number.
        ack: U32,
        /// Header length in 32-bit words, in the upper four bits.
        offset: u8,
        /// Flags, see [`tcp_flags`].
        flags: u8,
        /// Receive window, unscaled.
        window: U16,
        /// Checksum.
        checksum: U16,
        /// Urgent pointer.
        urgent: U16,
    }
    /// UDP (RFC 768).
    Udp {
        /// Source port.
        sport: U16,
        /// Destination port.
        dport: U16,
        /// Header and payload, octets.
        len: U16,
        /// Checksum; 0 = none (IPv4 only).
        checksum: U16,
    }
    /// SCTP common header (RFC 9260 section 3.1).
    Sctp {
        /// Source port.
        sport: U16,
        /// Destination port.
        dport: U16,
        /// Verification tag.
        vtag: U32,
        /// CRC32c.
        checksum: U32,
    }
    /// ICMP and ICMPv6: type, code, checksum and the four octets after them (RFC 792, RFC 4443).
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Checksum.
        checksum: U16,
        /// Identifier of an echo.
        ident: U16,
        /// Sequence number of an echo.
        seq: U16,
    }
}

/// The header of type `T` at `at`, if the data reaches that far.
#[inline]
pub fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    data: &[u8],
    at: usize,
) -> Option<&T> {
    T::ref_from_prefix(data.get(at..)?)
        .ok()
        .map(|(header, _)| header)
}

/// As [`view`], to be changed in place.
#[inline]
pub fn view_mut<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned>(
    data: &mut [u8],
    at: usize,
) -> Option<&mut T> {
    T::mut_from_prefix(data.get_mut(at..)?)
        .ok()
        .map(|(header, _)| header)
}
