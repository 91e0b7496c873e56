//! What the generator counts.

use serde::Serialize;

use super::check::Mismatches;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start, of one side.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Faulty frames, by fault; a frame may have several.
            pub mismatches: Mismatches,
        }

        impl Counters {
            /// What was counted since `before`.
            #[must_use]
            pub fn since(&self, before: &Self) -> Self {
                Self {
                    $($name: self.$name.wrapping_sub(before.$name),)*
                    mismatches: self.mismatches.since(&before.mismatches),
                }
            }

            /// Both together.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self {
                    $($name: self.$name + other.$name,)*
                    mismatches: self.mismatches.plus(&other.mismatches),
                }
            }
        }
    };
}

counters! {
    /// Stamped frames sent.
    sent,
    /// Their octets, check sequence included.
    sent_octets,
    /// Stamped frames of this trial that arrived, each counted once.
    received,
    /// Their octets, check sequence included.
    received_octets,
    /// Arrived again.
    duplicates,
    /// Arrived after one that was sent later.
    reordered,
    /// Arrived after the trial they were sent in.
    late,
    /// TCP segments without data sent, for opening and closing connections.
    control_sent,
    /// TCP segments without data received.
    control_received,
    /// TCP resets received.
    resets,
    /// Connections begun.
    started,
    /// Flows or connections opened.
    opened,
    /// Connections closed by both ends.
    closed,
    /// Connections that did not get as far in time.
    failed,
    /// Connections that were due while all flows were in use.
    starved,
    /// ICMP messages received.
    icmp,
    /// ARP and neighbour discovery answered.
    neighbor_answers,
    /// Frames received that belong to no test.
    foreign,
    /// Frames received with something wrong.
    faulty,
    /// Frames that could not be made for want of a buffer.
    no_buffer,
}
