//! Rates and spans of time as an operator writes them, and as reports show them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a frame takes on the wire beside itself: preamble, start delimiter and the gap after it,
/// octets (IEEE 802.3).
pub const WIRE_OVERHEAD: u16 = 20;
/// The check sequence behind every frame, octets: part of a frame's size, but not of what a port is
/// given.
pub const FCS: u16 = 4;

/// A count as a floating-point number. Exact below 2^53, which is 28 years of a million a second.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// A floating-point number cut to a count; what is negative or not a number is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub fn whole(number: f64) -> u64 {
    number as u64
}

/// The nanoseconds of a span; saturates after 584 years.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How fast frames are offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as the port takes them.
    Max,
    /// Frames (or connections) per second.
    Packets(f64),
    /// Bits per second on the wire, with preamble and gap.
    Bits(f64),
}

impl Rate {
    /// Frames per second for frames of `mean_size` octets (check sequence counted); `None` is
    /// unlimited.
    pub fn packets_per_second(self, mean_size: f64) -> Option<f64> {
        match self {
            Self::Max => None,
            Self::Packets(rate) => Some(rate),
            Self::Bits(rate) => Some(rate / (8.0 * (mean_size + f64::from(WIRE_OVERHEAD)))),
        }
    }
}

/// Splits `10kpps` into the number, the multiplier and the unit behind it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value: f64 = digits.replace('_', "").parse().ok()?;
    let rest = rest.trim_start();
    let (factor, unit) = match rest.chars().next() {
        Some('k' | 'K') => (1e3, &rest[1..]),
        Some('M') => (1e6, &rest[1..]),
        Some('G') => (1e9, &rest[1..]),
        _ => (1.0, rest),
    };
    Some((value * factor, unit))
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no rate: expected max, frames per second such as 10kpps or 1.5Mpps, or \
                 bits per second on the wire such as 1Gbps"
            )
        };
        let text = text.trim();
        if text == "max" {
            return Ok(Self::Max);
        }
        let (value, unit) = number(text).ok_or_else(bad)?;
        if !value.is_finite() || value <= 0.0 {
            return Err(bad());
        }
        match unit {
            "" | "pps" | "cps" | "/s" => Ok(Self::Packets(value)),
            "bps" | "bit/s" => Ok(Self::Bits(value)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Max => f.write_str("max"),
            Self::Packets(rate) => write!(f, "{}pps", scaled(rate)),
            Self::Bits(rate) => write!(f, "{}bps", scaled(rate)),
        }
    }
}

/// A number with three or four digits and a multiplier: `1.25 M`.
pub fn scaled(value: f64) -> String {
    for (limit, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= limit {
            return format!("{:.3} {suffix}", value / limit);
        }
    }
    format!("{value:.0} ")
}

/// A span in nanoseconds, in the unit that reads best.
pub fn span(nanos: u64) -> String {
    let value = float(nanos);
    if nanos < 10_000 {
        format!("{nanos} ns")
    } else if nanos < 10_000_000 {
        format!("{:.1} µs", value / 1e3)
    } else if nanos < 10_000_000_000 {
        format!("{:.1} ms", value / 1e6)
    } else {
        format!("{:.1} s", value / 1e9)
    }
}

/// Reads `500ms`, `10s`, `2m`, or seconds without a unit.
///
/// Errors: what is no span, is negative, or is longer than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no span of time: expected such as 10s, 500ms, 100us or 2m");
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let value: f64 = digits.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "" | "s" => value,
        "ms" => value / 1e3,
        "us" | "µs" => value / 1e6,
        "m" | "min" => value * 60.0,
        _ => return Err(bad()),
    };
    if seconds > 86_400.0 {
        return Err(format!("{text:?} is longer than a day"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_packets_and_bits() {
        assert_eq!("10kpps".parse(), Ok(Rate::Packets(10e3)));
        assert_eq!("1.5Mpps".parse(), Ok(Rate::Packets(1.5e6)));
        assert_eq!("250".parse(), Ok(Rate::Packets(250.0)));
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("1Gbps".parse(), Ok(Rate::Bits(1e9)));
        for bad in [
            "",
            "fast",
            "0",
            "-1",
            "1Tbps",
            "1e9999pps",
            "kpps",
            "1 lightyear",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_gigabit_of_smallest_frames_is_what_everybody_knows() {
        let rate = Rate::Bits(1e9).packets_per_second(64.0).unwrap();
        assert_eq!(whole(rate), 1_488_095);
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("0.25s"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "1y", "-1s", "100000s", "1.2.3"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
