//! What is known of one flow: how many frames it sent, and which of them came back.

use net::Timestamp;

use super::stamp::ticks;

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing was sent, or all is over.
    #[default]
    Closed,
    /// The first frame was sent.
    Opening,
    /// It was answered.
    Open,
    /// The end was sent.
    Closing,
}

/// What an arrival is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first time, and in order as far as it can be told.
    New,
    /// The first time, after one that was sent later.
    Reordered,
    /// Not the first time.
    Again,
    /// A number that was not sent.
    NeverSent,
}

/// One flow, in half a cache line.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowState {
    /// Frames sent: the number of the next one.
    pub sent: u32,
    /// One more than the highest number that came back.
    high: u32,
    /// Which of the 64 numbers below `high` came back; the lowest bit is `high - 1`.
    window: u64,
    /// The next TCP sequence number.
    pub next: u32,
    /// The TCP sequence number that is expected of the server.
    pub acked: u32,
    /// When it was opened, in [`ticks`].
    pub since: u32,
    /// How far it has come.
    pub phase: Phase,
}

impl FlowState {
    /// Begins a connection behind all sequence numbers of the one before.
    pub const fn open(&mut self, now: Timestamp) {
        self.phase = Phase::Opening;
        self.since = ticks(now);
        // The SYN takes the number before.
        self.next = self.next.wrapping_add(100_001);
        self.acked = self.next;
    }

    /// The number whose lower half is `low` that was sent last.
    #[inline]
    pub const fn whole_number(&self, low: u32) -> u32 {
        let last = self.sent.wrapping_sub(1);
        last.wrapping_sub(last.wrapping_sub(low) & 0xffff)
    }

    /// Notes that a number came back.
    #[inline]
    pub const fn arrive(&mut self, number: u32) -> Arrival {
        // Numbers go round after 2^32; what is more than half of that away lies behind.
        let behind_sent = self.sent.wrapping_sub(number);
        if behind_sent == 0 || behind_sent > 1 << 31 {
            return Arrival::NeverSent;
        }
        let ahead = number.wrapping_sub(self.high);
        if ahead < 1 << 31 {
            self.window = if ahead >= 63 {
                0
            } else {
                self.window << (ahead + 1)
            };
            self.window |= 1;
            self.high = number.wrapping_add(1);
            return Arrival::New;
        }
        let back = self.high.wrapping_sub(number).wrapping_sub(1);
        if back >= 64 {
            // Too far behind to tell whether it is the first time.
            return Arrival::Reordered;
        }
        if self.window >> back & 1 == 1 {
            return Arrival::Again;
        }
        self.window |= 1 << back;
        Arrival::Reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_is_new_once(
            start in prop_oneof![Just(0u32), Just(u32::MAX - 20), any::<u32>()],
            order in Just((0u32..60).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut state = FlowState { sent: start, high: start, ..FlowState::default() };
            state.sent = start.wrapping_add(60);
            let mut highest = None;
            for number in &order {
                let wanted = if highest.is_none_or(|h| h < *number) { Arrival::New } else { Arrival::Reordered };
                prop_assert_eq!(state.arrive(start.wrapping_add(*number)), wanted);
                highest = highest.max(Some(*number));
            }
            for number in &order {
                prop_assert_eq!(state.arrive(start.wrapping_add(*number)), Arrival::Again);
            }
            prop_assert_eq!(state.arrive(state.sent), Arrival::NeverSent);
        }

        #[test]
        fn half_a_number_is_enough_for_recent_ones(sent in any::<u32>(), back in 1u32..65_536) {
            let state = FlowState { sent, ..FlowState::default() };
            let number = sent.wrapping_sub(back);
            prop_assert_eq!(state.whole_number(number & 0xffff), number);
        }
    }

    #[test]
    fn a_flow_is_half_a_cache_line() {
        assert_eq!(size_of::<FlowState>(), 32);
    }
}
