//! How long a flow may stay silent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::state::State;

/// How long a flow may stay silent in each phase of its life, in whole seconds.
///
/// Defaults per protocol are in [`tcp`](Self::tcp), [`udp`](Self::udp), [`icmp`](Self::icmp) and
/// [`other`](Self::other). Setters round up to whole seconds and hold values within one second and
/// the largest the field holds (18 hours; for `idle` and `half_closed` 136 years, which is as good as
/// never).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeouts {
    idle: u32,
    half_closed: u32,
    opening: u16,
    closing: u16,
    time_wait: u16,
    closed: u16,
}

impl Timeouts {
    /// TCP: opening 30 s, idle 300 s, half-closed as long as idle, closing 60 s, time-wait 10 s,
    /// closed 5 s.
    ///
    /// A translator for the public is asked for 4 minutes and 2 hours 4 minutes (RFC 5382 section
    /// 5, REQ-5; there and here a connection that one side has closed is established still), Linux
    /// waits 120 s for the answer to a SYN, 60 s for the handshake to complete,
    /// 120 s in time-wait and 5 days when established. In front of servers of our own that only
    /// fills the table: a client resends its SYN after 1, 3, 7 and 15 s, within 30 s; the two
    /// ends keep their own time-wait, and 10 s outlive the last retransmitted FIN in practice.
    pub const fn tcp() -> Self {
        Self {
            opening: 30,
            idle: 300,
            half_closed: 300,
            closing: 60,
            time_wait: 10,
            closed: 5,
        }
    }

    /// UDP: unreplied 30 s, as Linux has it; idle 60 s. RFC 4787 section 4.3 (REQ-5) asks for 2
    /// minutes where the port is not a well-known one; set `idle` for such services.
    pub const fn udp() -> Self {
        Self {
            opening: 30,
            idle: 60,
            half_closed: 60,
            ..Self::tcp()
        }
    }

    /// ICMP queries: unreplied 30 s, idle 60 s (RFC 5508 section 3.2, REQ-2).
    pub const fn icmp() -> Self {
        Self::udp()
    }

    /// SCTP: opening 30 s, idle 300 s, shutting down 60 s, finished 10 s, aborted 5 s.
    ///
    /// Ends that have nothing to say ask after each other about every 30 s (RFC 9260 section 8.3 and
    /// section 16, `HB.Interval`), so an association is silent for 300 s only if one of them is gone. INIT is
    /// sent again after 1, 3, 7 and 15 s, SHUTDOWN likewise.
    pub const fn sctp() -> Self {
        Self::tcp()
    }

    /// Other protocols: unreplied 30 s, idle 300 s.
    pub const fn other() -> Self {
        Self::tcp()
    }

    /// With a time for flows that are not established (SYN_SENT, SYN_RECV) or not replied to.
    #[must_use]
    pub fn with_opening(mut self, d: Duration) -> Self {
        self.opening = short(d);
        self
    }

    /// With a time for flows that are established or replied to. [`Duration::MAX`] is never.
    #[must_use]
    pub fn with_idle(mut self, d: Duration) -> Self {
        self.idle = seconds(d);
        self
    }

    /// With a time for connections that one side has closed, while the other may go on sending
    /// for hours. [`Duration::MAX`] is never.
    #[must_use]
    pub fn with_half_closed(mut self, d: Duration) -> Self {
        self.half_closed = seconds(d);
        self
    }

    /// With a time for connections that both sides are closing.
    #[must_use]
    pub fn with_closing(mut self, d: Duration) -> Self {
        self.closing = short(d);
        self
    }

    /// With a time for connections both sides have closed.
    #[must_use]
    pub fn with_time_wait(mut self, d: Duration) -> Self {
        self.time_wait = short(d);
        self
    }

    /// With a time for connections that were reset.
    #[must_use]
    pub fn with_closed(mut self, d: Duration) -> Self {
        self.closed = short(d);
        self
    }

    /// How long a flow may stay silent in `state`.
    #[inline]
    pub const fn of(&self, state: State) -> Duration {
        let seconds = match state {
            State::SynSent
            | State::SynReceived
            | State::Unreplied
            | State::CookieWait
            | State::CookieEchoed => self.opening as u64,
            State::Established | State::Replied | State::Datagrams => self.idle as u64,
            State::FinWait | State::CloseWait => self.half_closed as u64,
            State::LastAck
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent => self.closing as u64,
            State::TimeWait | State::ShutdownComplete => self.time_wait as u64,
            State::Closed => self.closed as u64,
        };
        Duration::from_secs(seconds)
    }
}

/// Names timeouts that a table has been [told](crate::Table::timeouts_id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TimeoutsId(u16);

impl TimeoutsId {
    /// [`Timeouts::tcp`], which every table knows.
    pub const TCP: Self = Self(0);
}

/// The different timeouts of a table's flows, so that a flow names its own by a number. New ones come with a
/// configuration; a flow that is entered or looked at finds its own by their place.
#[derive(Debug)]
pub(crate) struct Classes {
    all: Vec<Timeouts>,
    known: BTreeMap<Timeouts, u16>,
}

impl Classes {
    pub(crate) fn new() -> Self {
        let mut classes = Self {
            all: Vec::new(),
            known: BTreeMap::new(),
        };
        let first = classes.id(&Timeouts::tcp());
        debug_assert_eq!(first, TimeoutsId::TCP);
        classes
    }

    /// The number of `timeouts`. After 65,536 different ones, those with the next longer idle time serve.
    pub(crate) fn id(&mut self, timeouts: &Timeouts) -> TimeoutsId {
        if let Some(known) = self.known.get(timeouts) {
            return TimeoutsId(*known);
        }
        let Ok(new) = u16::try_from(self.all.len()) else {
            // Idle times come first in their order.
            let longer = self.known.range(timeouts..).next();
            return longer.map_or(TimeoutsId::TCP, |(_, id)| TimeoutsId(*id));
        };
        self.all.push(*timeouts);
        self.known.insert(*timeouts, new);
        TimeoutsId(new)
    }

    /// The timeouts with a number.
    #[inline]
    pub(crate) fn get(&self, id: TimeoutsId) -> &Timeouts {
        const DEFAULT: Timeouts = Timeouts::tcp();
        self.all.get(usize::from(id.0)).unwrap_or(&DEFAULT)
    }
}

/// Whole seconds, rounded up, from 1.
fn seconds(d: Duration) -> u32 {
    let whole = d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0));
    u32::try_from(whole).unwrap_or(u32::MAX).max(1)
}

fn short(d: Duration) -> u16 {
    u16::try_from(seconds(d)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_up_and_stay_in_range() {
        let t = Timeouts::tcp()
            .with_opening(Duration::from_millis(1))
            .with_closing(Duration::from_millis(1500))
            .with_time_wait(Duration::ZERO)
            .with_idle(Duration::MAX);
        assert_eq!(t.of(State::SynSent), Duration::from_secs(1));
        assert_eq!(t.of(State::LastAck), Duration::from_secs(2));
        assert_eq!(t.of(State::FinWait), Duration::from_mins(5));
        assert_eq!(t.of(State::TimeWait), Duration::from_secs(1));
        assert_eq!(
            t.of(State::Established),
            Duration::from_secs(u64::from(u32::MAX))
        );
        assert_eq!(size_of::<Timeouts>(), 16);
    }

    #[test]
    fn each_of_many_timeouts_keeps_its_number_and_beyond_them_the_next_longer_serve() {
        let idle = |n: u64| Timeouts::udp().with_idle(Duration::from_secs(n));
        let mut classes = Classes::new();
        // The numbers 1 to 65,535; the first is that of TCP.
        let ids: Vec<_> = (1..=65_535).map(|n| classes.id(&idle(n * 2))).collect();
        assert_eq!(classes.id(&Timeouts::tcp()), TimeoutsId::TCP);
        for (n, id) in (1..).zip(&ids) {
            assert_eq!(classes.id(&idle(n * 2)), *id);
            assert_eq!(classes.get(*id), &idle(n * 2));
        }
        let served = |classes: &mut Classes, n| {
            let id = classes.id(&idle(n));
            *classes.get(id)
        };
        assert_eq!(served(&mut classes, 999), idle(1000));
        assert_eq!(served(&mut classes, 200_000), Timeouts::tcp());
        assert_eq!(classes.all.len(), 65_536);
    }
}
