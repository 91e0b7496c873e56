//! The two things a table wants of the processor that safe Rust has no words for.
#![allow(unsafe_code)]

/// Asks for the cache line of `at` without waiting for it.
#[inline]
pub(crate) fn prefetch<T>(at: &T) {
    let at = std::ptr::from_ref(at);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing; SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch reads nothing.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Which octets of `line` are `octet`, one bit each, the first lowest.
#[inline]
pub(crate) fn equal_octets(line: &[u8; 16], octet: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86_64, and sixteen octets are read of sixteen.
    unsafe {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        };
        let line = _mm_loadu_si128(line.as_ptr().cast());
        let equal = _mm_cmpeq_epi8(line, _mm_set1_epi8(octet.cast_signed()));
        _mm_movemask_epi8(equal).cast_unsigned()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let bits = line.iter().rev();
        bits.fold(0, |bits, other| bits << 1 | u32::from(*other == octet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_octets_are_found_where_they_are() {
        let mut line = [9; 16];
        (line[0], line[5], line[15]) = (7, 7, 7);
        assert_eq!(equal_octets(&line, 7), 1 | 1 << 5 | 1 << 15);
        assert_eq!(equal_octets(&line, 0), 0);
        assert_eq!(equal_octets(&line, 9), 0xffff & !(1 | 1 << 5 | 1 << 15));
    }
}
