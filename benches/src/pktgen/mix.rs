//! Frame sizes: one, a mix, or a genome.

use std::fmt;
use std::str::FromStr;

use super::units::float;

/// Frame sizes and how often each occurs, in octets with the check sequence, as RFC 2544 section 9
/// counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    name: String,
    /// One size per frame; the sequence repeats.
    pattern: Vec<u16>,
}

/// The smallest frame of Ethernet and the largest one we make, octets with the check sequence.
pub const SIZE_RANGE: std::ops::RangeInclusive<u16> = 64..=9000;
/// The sizes of RFC 2544 section 9.1.
pub const RFC2544_SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];

impl Mix {
    /// Frames of one size.
    pub fn fixed(size: u16) -> Self {
        Self {
            name: size.to_string(),
            pattern: vec![size],
        }
    }

    /// Seven frames of 64 octets, four of 594 and one of 1518, spread evenly: the "simple IMIX".
    pub fn imix() -> Self {
        Self {
            name: "imix".to_owned(),
            pattern: vec![64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594],
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sizes in the order they are sent.
    pub fn pattern(&self) -> &[u16] {
        &self.pattern
    }

    /// The mean size, octets.
    pub fn mean(&self) -> f64 {
        let sum: u64 = self.pattern.iter().map(|size| u64::from(*size)).sum();
        float(sum) / float(self.pattern.len().max(1) as u64)
    }

    /// The largest size, octets.
    pub fn largest(&self) -> u16 {
        self.pattern.iter().copied().max().unwrap_or(64)
    }
}

/// The size a letter of an IMIX genome stands for (RFC 6985 section 4).
fn gene(letter: char) -> Option<u16> {
    Some(match letter {
        'a' => 64,
        'b' => 128,
        'c' => 256,
        'd' => 512,
        'e' => 1024,
        'f' => 1280,
        'g' => 1518,
        'h' => 2112,
        'i' => 9000,
        _ => return None,
    })
}

impl FromStr for Mix {
    type Err = String;

    /// Reads a size, `imix`, `imix:64x7,594x4,1518x1` or `genome:aaaaaaaddddg` (RFC 6985).
    fn from_str(text: &str) -> Result<Self, String> {
        let range = format!("{} to {}", SIZE_RANGE.start(), SIZE_RANGE.end());
        let size = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|size| SIZE_RANGE.contains(size))
                .ok_or_else(|| {
                    format!("{text:?} is no frame size: expected {range} octets, imix, imix:64x7,1518x1 or genome:aaadg")
                })
        };
        let text = text.trim();
        if text == "imix" {
            return Ok(Self::imix());
        }
        let named = |pattern: Vec<u16>| Self {
            name: text.to_owned(),
            pattern,
        };
        if let Some(letters) = text.strip_prefix("genome:") {
            let pattern: Option<Vec<u16>> = letters.chars().map(gene).collect();
            return pattern
                .filter(|pattern| (1..=256).contains(&pattern.len()))
                .map(named)
                .ok_or_else(|| {
                    format!("{letters:?} is no genome: 1 to 256 letters of a (64 octets) to i (9000), see RFC 6985")
                });
        }
        if let Some(parts) = text.strip_prefix("imix:") {
            let mut classes = Vec::new();
            for part in parts.split([',', '+']) {
                let (octets, share) = part.split_once('x').unwrap_or((part, "1"));
                let share = share
                    .parse::<usize>()
                    .ok()
                    .filter(|n| (1..=100).contains(n));
                let share = share.ok_or_else(|| {
                    format!("{part:?}: expected SIZExSHARE, a share from 1 to 100")
                })?;
                classes.push((size(octets)?, share));
            }
            return Ok(named(interleave(&classes)));
        }
        Ok(Self::fixed(size(text)?))
    }
}

/// Spreads each class evenly over one round: the class that is furthest behind its share is next.
fn interleave(classes: &[(u16, usize)]) -> Vec<u16> {
    let total: usize = classes.iter().map(|(_, share)| share).sum();
    let share_of = |share: usize| i64::try_from(share).unwrap_or(0);
    let mut credit = vec![0i64; classes.len()];
    let mut pattern = Vec::with_capacity(total);
    for _ in 0..total {
        for (credit, (_, share)) in credit.iter_mut().zip(classes) {
            *credit += share_of(*share);
        }
        let next = (0..classes.len()).max_by_key(|i| (credit[*i], std::cmp::Reverse(*i)));
        if let Some(next) = next {
            credit[next] -= share_of(total);
            pattern.push(classes[next].0);
        }
    }
    pattern
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_keep_their_shares() {
        let count = |mix: &Mix, size: u16| mix.pattern().iter().filter(|s| **s == size).count();
        for mix in [Mix::imix(), "imix:64x7,594x4,1518x1".parse().unwrap()] {
            assert_eq!(mix.pattern().len(), 12);
            assert_eq!(
                [count(&mix, 64), count(&mix, 594), count(&mix, 1518)],
                [7, 4, 1]
            );
        }
        let genome: Mix = "genome:aag".parse().unwrap();
        assert_eq!(genome.pattern(), [64, 64, 1518]);
        assert!((genome.mean() - 548.666).abs() < 0.01);
        for bad in [
            "63",
            "9001",
            "imix:",
            "imix:64x0",
            "genome:",
            "genome:az",
            "large",
        ] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
