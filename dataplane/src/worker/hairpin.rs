//! Frames that come round: sent to an address of our own that clients are translated to, they are taken again at
//! once, or by the worker that they are for.

use arrayvec::ArrayVec;
use net::{PortId, Timestamp, VlanIndex};

use super::{Origin, Worker};
use crate::port::{BURST, Burst, Port};
use crate::steer::Asked;
use crate::verdict::{DropReason, Round, Verdict};

/// Those of one burst, with where they come from now.
pub(super) type Turned<F> = ArrayVec<(F, Origin), BURST>;

impl Origin {
    /// Frames of our own, which came in nowhere.
    pub(super) const OURSELVES: Self = Self {
        port: PortId(0),
        asked: Asked::NOBODY,
        waited: false,
        round: None,
    };
}

impl<P: Port> Worker<P> {
    /// Keeps a frame that is to be taken again as if it had come in by `vlan`.
    #[cold]
    pub(super) fn send_round(&mut self, origin: Origin, vlan: VlanIndex, frame: P::Frame) {
        let times = origin.round.map_or(0, |round| round.times) + 1;
        if times > Round::MOST {
            self.shared.counters.count_drop(DropReason::TtlExceeded);
            return;
        }
        let origin = Origin {
            asked: Asked::NOBODY,
            waited: false,
            round: Some(Round { vlan, times }),
            ..origin
        };
        if self.turned.try_push((frame, origin)).is_ok() {
            self.shared.counters.hairpin_packets.add(1);
        } else {
            self.shared.counters.count_drop(DropReason::HandoffFull);
        }
    }

    /// Has a frame of our own taken as if it had come in by `vlan`.
    #[cold]
    pub(super) fn send_ours_round(&mut self, now: Timestamp, vlan: VlanIndex, frame: P::Frame) {
        self.send_round(Origin::OURSELVES, vlan, frame);
        self.turn_round(now, &mut |_, _, _| {});
    }

    /// Takes them, in order, in bursts of one origin.
    #[cold]
    pub(super) fn turn_round(
        &mut self,
        now: Timestamp,
        seen: &mut impl FnMut(PortId, &mut P::Frame, &Verdict),
    ) {
        // Each pass counts the turns of its frames, so this ends.
        while !self.turned.is_empty() {
            let turned = std::mem::take(&mut self.turned);
            let mut burst: Burst<P::Frame> = Burst::new();
            let mut burst_origin = None;
            for (frame, origin) in turned {
                if let Some(earlier) = burst_origin
                    && earlier != origin
                {
                    let full = std::mem::take(&mut burst);
                    self.pass(now, earlier, full, seen);
                }
                burst_origin = Some(origin);
                burst.push(frame);
            }
            if let Some(origin) = burst_origin {
                self.pass(now, origin, burst, seen);
            }
        }
    }
}
