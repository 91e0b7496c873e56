//! How many errors are sent: so many a second in all, and a tenth of that to one neighbourhood of addresses,
//! so that one that provokes errors does not silence them for all others (RFC 4443 section 2.4 (f), RFC
//! 1812 section 4.3.2.8).

use net::{Addr, Timestamp};

/// Neighbourhoods (an IPv4 /24, an IPv6 /64) share this many buckets.
const CLASSES: usize = 256;
/// Errors sent at once, at least, after a while without any.
const BURST: u64 = 16;

/// A worker's share of errors. Its memory is fixed.
pub struct ErrorLimit {
    all: Bucket,
    by_class: [Bucket; CLASSES],
    /// Which neighbourhoods share a bucket is not for outsiders to know.
    secret: u64,
    of_all: Rate,
    of_class: Rate,
}

impl ErrorLimit {
    /// So many errors a second; 0 is none at all.
    pub fn new(per_second: u32, secret: u64) -> Self {
        let rate = |per_second: u64| Rate {
            interval: 1_000_000_000_u64.checked_div(per_second).unwrap_or(0),
            burst: BURST.max(per_second / 10),
        };
        let per_second = u64::from(per_second);
        Self {
            all: Bucket::default(),
            by_class: [Bucket::default(); CLASSES],
            secret: secret | 1,
            of_all: rate(per_second),
            of_class: rate(per_second.div_ceil(10)),
        }
    }

    /// Whether an error may be sent to `addr` at `now`; if so, it counts as sent.
    pub fn take(&mut self, addr: &Addr, now: Timestamp) -> bool {
        let class = self.class(addr);
        let Some(bucket) = self.by_class.get_mut(class) else {
            return false;
        };
        // Either both are drawn on or neither.
        let drawn = bucket.draw(&self.of_class, now);
        let all = self.all.draw(&self.of_all, now);
        match (drawn, all) {
            (Some(drawn), Some(all)) => {
                (*bucket, self.all) = (drawn, all);
                true
            }
            _ => false,
        }
    }

    fn class(&self, addr: &Addr) -> usize {
        let neighbourhood = if addr.is_v4() {
            let [a, b, c, _] = addr.v4_octets();
            u64::from(u32::from_be_bytes([0, a, b, c]))
        } else {
            let octets = addr.octets();
            let mut first = [0; 8];
            first.copy_from_slice(&octets[..8]);
            u64::from_be_bytes(first)
        };
        let mixed = (neighbourhood ^ self.secret.rotate_left(32)).wrapping_mul(self.secret);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 56).unwrap_or(0)
    }
}

/// Tokens that come in one by one.
struct Rate {
    /// Between two tokens, ns; 0 where none come.
    interval: u64,
    /// The most that are kept.
    burst: u64,
}

/// Kept as the time at which it is full (ITU-T I.371's virtual scheduling): one word.
#[derive(Clone, Copy, Default)]
struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// The bucket with a token less, if it has one.
    fn draw(self, rate: &Rate, now: Timestamp) -> Option<Self> {
        if rate.interval == 0 {
            return None;
        }
        let now = now.as_nanos();
        let missing = self.full_at.saturating_sub(now);
        let empty = rate.interval * rate.burst;
        // More than ever can be missing: the clock went back.
        let missing = if missing > empty { 0 } else { missing };
        let after = missing + rate.interval;
        (after <= empty).then_some(Self {
            full_at: now + after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(third: u8, last: u8) -> Addr {
        Addr::from_v4([10, 0, third, last])
    }

    /// How many of `tries` errors to one address are let through at `now`.
    fn sent(limit: &mut ErrorLimit, to: &Addr, tries: usize, now: Timestamp) -> usize {
        (0..tries).filter(|_| limit.take(to, now)).count()
    }

    #[test]
    fn errors_to_one_neighbourhood_come_in_bursts_and_then_at_their_rate() {
        let mut limit = ErrorLimit::new(1000, 7);
        let now = Timestamp::from_secs(100);
        assert_eq!(sent(&mut limit, &addr(1, 1), 1000, now), 16);
        assert_eq!(sent(&mut limit, &addr(1, 2), 1000, now), 0, "the same /24");
        let later = Timestamp::from_millis(100_050);
        assert_eq!(sent(&mut limit, &addr(1, 1), 1000, later), 5);
        let much_later = Timestamp::from_secs(1000);
        assert_eq!(sent(&mut limit, &addr(1, 1), 1000, much_later), 16);
    }

    #[test]
    fn all_together_have_their_rate() {
        let mut limit = ErrorLimit::new(1000, 7);
        let mut total = 0;
        for milli in 0..2000 {
            let now = Timestamp::from_millis(100_000 + milli);
            let to = addr(u8::try_from(milli % 250).unwrap(), 1);
            total += sent(&mut limit, &to, 10, now);
        }
        assert!((2000..=2100).contains(&total), "{total}");
    }

    #[test]
    fn one_who_provokes_errors_does_not_silence_them_for_others() {
        let mut limit = ErrorLimit::new(1000, 7);
        let mut others = 0;
        for milli in 0..1000 {
            let now = Timestamp::from_millis(100_000 + milli);
            sent(&mut limit, &addr(1, 1), 100, now);
            if milli % 10 == 0 {
                let to = addr(u8::try_from(milli / 10 + 2).unwrap(), 1);
                others += sent(&mut limit, &to, 1, now);
            }
        }
        // One that shares the bucket is the price of fixed memory.
        assert!(others >= 97, "{others} of 100");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_stop_errors() {
        let mut limit = ErrorLimit::new(10, 7);
        assert!(limit.take(&addr(1, 1), Timestamp::from_secs(1000)));
        assert!(limit.take(&addr(1, 1), Timestamp::from_secs(10)));
    }

    #[test]
    fn none_are_sent_where_none_are_wanted_and_few_where_few_are() {
        let now = Timestamp::from_secs(100);
        assert_eq!(sent(&mut ErrorLimit::new(0, 7), &addr(1, 1), 10, now), 0);
        let mut one = ErrorLimit::new(1, 7);
        assert_eq!(sent(&mut one, &addr(1, 1), 100, now), 16);
        let later = Timestamp::from_secs(103);
        assert_eq!(sent(&mut one, &addr(1, 1), 100, later), 3);
        let v6 = Addr::from_v6([0x20; 16]);
        assert_eq!(sent(&mut one, &v6, 100, later), 0, "the sum of all");
    }
}
