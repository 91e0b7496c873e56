//! What passed in one direction of a flow.

/// Packets and octets, 48 bits of each: 281 tera, six hours of one flow that fills 100 Gbit/s. Then
/// they begin anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Traffic {
    packets: u32,
    bytes: u32,
    packets_high: u16,
    bytes_high: u16,
}

impl Traffic {
    /// Counts one packet.
    #[inline]
    pub(crate) fn count(&mut self, bytes: u32) {
        let (packets, carry) = self.packets.overflowing_add(1);
        self.packets = packets;
        self.packets_high = self.packets_high.wrapping_add(u16::from(carry));
        let (bytes, carry) = self.bytes.overflowing_add(bytes);
        self.bytes = bytes;
        self.bytes_high = self.bytes_high.wrapping_add(u16::from(carry));
    }

    pub(crate) const fn packets(&self) -> u64 {
        (self.packets_high as u64) << 32 | self.packets as u64
    }

    pub(crate) const fn bytes(&self) -> u64 {
        (self.bytes_high as u64) << 32 | self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_carry_on_beyond_32_bits() {
        let mut traffic = Traffic {
            packets: u32::MAX - 1,
            ..Traffic::default()
        };
        for _ in 0..3 {
            traffic.count(u32::MAX);
        }
        assert_eq!(traffic.packets(), (1 << 32) + 1);
        assert_eq!(traffic.bytes(), 3 * u64::from(u32::MAX));
    }
}
