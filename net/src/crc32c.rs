//! The checksum of SCTP: CRC32c (RFC 9260 section 6.8 and appendix A), whole and by difference.
//!
//! A CRC is linear: octets that change under it change it by the CRC of their difference, whatever the
//! rest is. So translated ports need no look at the packet, and a checksum that was wrong stays wrong.

/// The polynomial, reflected: the lowest bit is the coefficient of the highest power.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Where the checksum lies in the common header.
const AT: usize = 8;

/// x to the power of eight times each power of two: what so many octets more do.
const POWERS: [u32; 17] = {
    let mut powers = [0; 17];
    powers[0] = 1 << (31 - 8);
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The product of two polynomials, reduced.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 {
            b >> 1 ^ POLYNOMIAL
        } else {
            b >> 1
        };
    }
    product
}

/// The checksum field of an SCTP packet, as it lies on the wire; what stands in the field now does not
/// matter. `None` if the packet is shorter than its common header.
pub fn of(segment: &[u8]) -> Option<[u8; 4]> {
    let (head, rest) = (segment.get(..AT)?, segment.get(AT + 4..)?);
    let sum = crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]);
    Some(crc32c::crc32c_append(sum, rest).to_le_bytes())
}

/// Whether an SCTP packet carries the right checksum.
pub fn is_right(segment: &[u8]) -> bool {
    of(segment).is_some_and(|sum| segment.get(AT..AT + 4) == Some(&sum))
}

/// The checksum field of an SCTP packet of `len` octets, common header and all, that had `sum` in it before
/// its first four octets, the ports, went from `old` to `new`.
#[must_use]
pub fn adjust(sum: [u8; 4], old: [u8; 4], new: [u8; 4], len: u16) -> [u8; 4] {
    let difference = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
    let mut shift = 1 << 31;
    for (k, power) in POWERS.iter().enumerate() {
        if u32::from(len) >> k & 1 == 1 {
            shift = multiply(shift, *power);
        }
    }
    (u32::from_le_bytes(sum) ^ multiply(difference, shift)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_polynomial_is_e3069283() {
        // Appendix B.4 of RFC 3720 has it for iSCSI, which uses the same one.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(of(&[0; 11]), None);
    }

    proptest! {
        #[test]
        fn a_sum_adjusted_is_the_sum_of_the_whole(
            mut packet in proptest::collection::vec(any::<u8>(), 12..2000),
            new in any::<[u8; 4]>(),
        ) {
            let old = *packet.first_chunk().unwrap();
            let before = of(&packet).unwrap();
            packet[..4].copy_from_slice(&new);
            let len = u16::try_from(packet.len()).unwrap();
            prop_assert_eq!(adjust(before, old, new, len), of(&packet).unwrap());
        }

        #[test]
        fn a_wrong_sum_stays_wrong_by_as_much(
            mut packet in proptest::collection::vec(any::<u8>(), 12..200),
            new in any::<[u8; 4]>(),
            error in 1u32..,
        ) {
            let old = *packet.first_chunk().unwrap();
            let wrong = u32::from_le_bytes(of(&packet).unwrap()) ^ error;
            packet[..4].copy_from_slice(&new);
            let len = u16::try_from(packet.len()).unwrap();
            let after = u32::from_le_bytes(adjust(wrong.to_le_bytes(), old, new, len));
            prop_assert_eq!(after ^ error, u32::from_le_bytes(of(&packet).unwrap()));
        }
    }
}
