//! Bytes that both ends of a transfer can compute: no file to ship, every offset different.

use sha2::{Digest as _, Sha256};

/// Fills `buffer` with the bytes of the pattern that start at byte `offset`.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    let mut position = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let bytes = word(position / 8).to_le_bytes();
        let skip = usize::try_from(position % 8).unwrap_or(0);
        let take = rest.len().min(bytes.len() - skip);
        let (now, later) = rest.split_at_mut(take);
        now.copy_from_slice(&bytes[skip..skip + take]);
        position += take as u64;
        rest = later;
    }
}

/// The lower-case hexadecimal SHA-256 of the first `len` bytes of the pattern.
pub fn sha256(len: u64) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < len {
        let take =
            usize::try_from(len - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        fill(offset, &mut buffer[..take]);
        hash.update(&buffer[..take]);
        offset += take as u64;
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .collect()
}

/// The pattern's eight bytes at `index`, scrambled so that no two blocks look alike.
fn word(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_the_pattern_is_the_same_bytes() {
        let mut whole = [0; 200];
        fill(0, &mut whole);
        for offset in 0..40 {
            for len in [0, 1, 7, 8, 9, 100] {
                let mut part = vec![0; len];
                fill(offset as u64, &mut part);
                assert_eq!(part, whole[offset..offset + len]);
            }
        }
    }

    #[test]
    fn the_hash_is_that_of_the_bytes() {
        let mut bytes = vec![0; 100_000];
        fill(0, &mut bytes);
        assert_eq!(sha256(100_000), hex(&Sha256::digest(&bytes)));
        assert_eq!(
            sha256(0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
