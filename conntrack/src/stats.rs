//! What the table counts.

use crate::event::EndReason;
use crate::state::State;

/// A snapshot of the table's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub(crate) states: [u32; State::ALL.len()],
    pub(crate) ended: [u64; EndReason::ALL.len()],
    /// Flows entered.
    pub inserts: u64,
    /// Flows refused because the table was full of flows that must stay.
    pub refused: u64,
    /// Flows refused because one of their tuples was taken.
    pub collisions: u64,
    /// Packets that could not belong to their flow.
    pub invalid: u64,
}

impl Stats {
    /// Flows in `state` now.
    pub const fn in_state(&self, state: State) -> u32 {
        self.states[state as usize]
    }

    /// Flows that ended for `reason` since the start.
    pub const fn ended(&self, reason: EndReason) -> u64 {
        self.ended[reason as usize]
    }

    /// Flows that gave way to new ones.
    pub const fn evictions(&self) -> u64 {
        self.ended(EndReason::Evicted)
    }

    /// Flows whose time ran out, in whatever state.
    pub const fn expiries(&self) -> u64 {
        self.ended(EndReason::Closed)
            + self.ended(EndReason::Reset)
            + self.ended(EndReason::Idle)
            + self.ended(EndReason::Unanswered)
    }
}
