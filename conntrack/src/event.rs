//! Why a flow ended. There is no event per packet: what a packet did is the answer of
//! [`Table::observe`](crate::Table::observe).

use std::fmt;

/// Why a flow left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndReason {
    /// Both sides closed, and the time-wait period is over.
    Closed,
    /// One side reset the connection.
    Reset,
    /// Established, replied to or half-closed, and silent for too long.
    Idle,
    /// Never established or never answered.
    Unanswered,
    /// Gave way to a new flow in a full table.
    Evicted,
    /// A new connection took over the tuple, see [`Observed::Reopen`](crate::Observed::Reopen).
    Reopened,
    /// Removed by the caller for a reason of its own.
    Removed,
}

impl EndReason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Reset,
        Self::Idle,
        Self::Unanswered,
        Self::Evicted,
        Self::Reopened,
        Self::Removed,
    ];

    /// The name in counters and dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Unanswered => "unanswered",
            Self::Evicted => "evicted",
            Self::Reopened => "reopened",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
