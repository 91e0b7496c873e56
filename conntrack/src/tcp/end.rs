//! What one direction of a connection has shown: sequence numbers reached, and the window open to it.

use net::header::tcp_flags::FIN;

use super::{Step, TcpSegment};

/// A SYN was sent; the numbers are valid.
pub(super) const SENT_SYN: u8 = 1 << 0;
/// The SYN was acknowledged.
pub(super) const SYN_ACKED: u8 = 1 << 1;
/// A FIN was sent.
pub(super) const SENT_FIN: u8 = 1 << 2;
/// In SYN_SENT, the other side answered from an older connection (RFC 9293 section 3.5.1):
/// `una` of this direction is the acknowledgement it sent.
pub(super) const HALF_OPEN: u8 = 1 << 3;
/// The client sent another SYN in a connection; a server that has lost the connection may
/// take it, and then both begin anew.
pub(super) const RENEWED: u8 = 1 << 4;
/// Not all that was sent has been seen: the connection was picked up in its middle, and what passed
/// before is not known, nor the scale of windows; or a segment came in fragments.
pub(super) const PICKED_UP: u8 = 1 << 5;

/// The SYN offered to scale windows; `scale` is not agreed on yet.
const OFFERED: u8 = 0x80;
/// The largest shift (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;
/// How far behind an acknowledgement may lag at least, whatever the window: segments are reordered by
/// more than small windows.
const LEAST_LAG: u32 = 0xffff;
/// How far behind or ahead of what was seen the numbers of a connection may be that was picked up.
pub(super) const UNSEEN: u32 = 1 << 30;

/// Whether `a` comes before `b` on the circle of sequence numbers (RFC 9293 section 3.4).
pub(super) const fn before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}

/// Where a segment lies that one side sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the window, or as near to it as what is sent again may be.
    Inside,
    /// Long acknowledged, sent again because the acknowledgement was lost.
    Old,
    /// Beyond the window, or it acknowledges what was never sent or long ago.
    Outside,
}

/// Facts about one direction, named after its sender's variables (RFC 9293 section 3.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    /// ISS, the sequence number of the SYN, until the handshake is complete. From then on the right edge
    /// of the window: the highest sequence number that the other side has allowed.
    pub(super) mark: u32,
    /// SND.NXT: behind the last octet sent; final once the FIN was sent.
    pub(super) next: u32,
    /// SND.UNA: what the other side has acknowledged.
    pub(super) una: u32,
    /// The largest window advertised, before scaling.
    window: u16,
    /// `SENT_SYN` and so on.
    pub(super) facts: u8,
    /// How far windows are shifted that this side advertises (RFC 7323); see `OFFERED`.
    scale: u8,
}

impl End {
    #[inline]
    pub(super) const fn knows(&self, fact: u8) -> bool {
        self.facts & fact != 0
    }

    /// A SYN starts the direction.
    pub(super) const fn start(syn: &TcpSegment) -> Self {
        Self {
            mark: syn.seq,
            next: syn.end(),
            una: syn.seq,
            window: syn.window,
            facts: SENT_SYN,
            scale: match syn.scale {
                Some(scale) if scale > MAX_SCALE => OFFERED | MAX_SCALE,
                Some(scale) => OFFERED | scale,
                None => 0,
            },
        }
    }

    /// A client whose SYN is known by its number alone, and was acknowledged.
    pub(super) const fn restarted(isn: u32) -> Self {
        let next = isn.wrapping_add(1);
        Self {
            mark: isn,
            next,
            una: next,
            window: u16::MAX,
            facts: SENT_SYN | SYN_ACKED,
            // If it offered any; the SYN-ACK tells.
            scale: OFFERED | MAX_SCALE,
        }
    }

    /// A server that answers a SYN once more, with another number: it keeps none of those it gave
    /// (RFC 4987 section 3.6).
    pub(super) const fn answers_anew(&mut self, syn_ack: &TcpSegment) {
        self.mark = syn_ack.seq;
        self.next = syn_ack.end();
        self.una = syn_ack.seq;
    }

    /// A direction of a connection that is met in its middle: one that sends from `seq` to `next`.
    pub(super) const fn picked_up(seq: u32, next: u32, window: u16) -> Self {
        Self {
            mark: seq.wrapping_add(UNSEEN),
            next,
            una: seq,
            window,
            facts: SENT_SYN | SYN_ACKED | PICKED_UP,
            // Not known, so the largest there is.
            scale: MAX_SCALE,
        }
    }

    /// Both sides have sent a SYN: windows are scaled if both offered it (RFC 7323 section 2.2). Those in
    /// the SYNs themselves are not; they are rounded up to a multiple of the scale.
    pub(super) fn agree(&mut self, peer: &mut Self) {
        let both = self.scale & peer.scale & OFFERED != 0;
        for end in [self, peer] {
            end.scale = if both { end.scale & !OFFERED } else { 0 };
            let unit = (1_u32 << end.scale) - 1;
            let window = (u32::from(end.window) + unit) >> end.scale;
            end.window = u16::try_from(window).unwrap_or(u16::MAX);
        }
    }

    /// In SYN_SENT, this side has answered with `segment` from an older connection, be it one that it
    /// still holds or one that is on its way. The client resets it.
    pub(super) const fn answers_an_older(&mut self, segment: &TcpSegment) -> Step {
        self.una = segment.ack;
        self.facts = HALF_OPEN;
        Step::Pass
    }

    /// The handshake is complete: from now on the edge of the window is followed.
    pub(super) const fn open(&mut self, peer: &Self) {
        self.mark = self.edge_while_opening(peer);
    }

    /// The right edge of the window as long as the handshake lasts.
    pub(super) const fn edge_while_opening(&self, peer: &Self) -> u32 {
        self.una.wrapping_add(peer.reach())
    }

    /// The largest window this side has advertised, octets.
    #[inline(always)]
    pub(super) const fn reach(&self) -> u32 {
        (self.window as u32) << (self.scale & 0x1f)
    }

    /// Whether `seq` is from the first number not acknowledged to the next one to be sent.
    pub(super) const fn in_flight(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.una) <= self.next.wrapping_sub(self.una)
    }

    /// Whether `ack` acknowledges something sent and not acknowledged before.
    pub(super) const fn is_news(&self, ack: u32) -> bool {
        ack != self.una && self.in_flight(ack)
    }

    /// Whether `seq` begins a segment in the window that ends at `edge`, or of what its sender may
    /// believe to be lost: it has heard of an acknowledgement that is one window old at most.
    #[inline(always)]
    pub(super) const fn may_send(&self, seq: u32, edge: u32, peer: &Self) -> bool {
        let lowest = self.una.wrapping_sub(peer.reach());
        seq.wrapping_sub(lowest) <= edge.wrapping_sub(lowest)
    }

    /// Whether `ack` of `peer` can acknowledge what this direction sent, be it late: not what was never
    /// sent, nor what was acknowledged more than a window ago (RFC 5961 section 5.2).
    #[inline(always)]
    pub(super) const fn may_have_acked(&self, ack: u32, peer: &Self) -> bool {
        let reach = peer.reach();
        let lag = if reach > LEAST_LAG { reach } else { LEAST_LAG };
        let lowest = self.una.wrapping_sub(lag);
        ack.wrapping_sub(lowest) <= self.next.wrapping_sub(lowest)
    }

    /// Where a segment of this direction lies whose window ends at `edge`. Whoever probes a closed window
    /// has sent beyond it (RFC 9293 section 3.8.6.1), and numbers acknowledgements accordingly; not more data.
    pub(super) fn place(&self, segment: &TcpSegment, edge: u32, peer: &Self) -> Place {
        let probed = segment.end() == segment.seq && before(edge, self.next);
        let edge = if probed { self.next } else { edge };
        if !peer.may_have_acked(segment.ack, self) {
            Place::Outside
        } else if self.may_send(segment.seq, edge, peer) {
            Place::Inside
        } else if before(segment.seq, self.una) {
            Place::Old
        } else {
            Place::Outside
        }
    }

    /// As [`place`](Self::place), for a connection that was picked up: what the two sides know of each other
    /// may be more than what was seen. Lets the numbers catch up.
    pub(super) fn catch_up(&mut self, segment: &TcpSegment, peer: &mut Self) -> Place {
        let near =
            |number: u32, known: u32| number.wrapping_sub(known.wrapping_sub(UNSEEN)) <= 2 * UNSEEN;
        if !near(segment.seq, self.una) || !near(segment.ack, peer.una) {
            return Place::Outside;
        }
        if before(peer.next, segment.ack) && !peer.knows(SENT_FIN) {
            peer.next = segment.ack;
        }
        if before(self.mark, segment.seq) {
            self.mark = segment.seq;
        }
        Place::Inside
    }

    /// Takes note of what this direction sent.
    pub(super) fn sent(&mut self, segment: &TcpSegment) {
        self.window = self.window.max(segment.window);
        if self.knows(SENT_FIN) {
            return; // nothing new comes behind a FIN
        }
        let end = segment.end();
        if before(self.next, end) {
            self.next = end;
        }
        // Not one in the place of something acknowledged, as the SYN.
        if segment.has(FIN) && end == self.next && end != self.una {
            self.facts |= SENT_FIN;
        }
    }

    /// Takes note of what the other side, `peer`, acknowledged.
    pub(super) fn acknowledged(&mut self, ack: u32) {
        if self.is_news(ack) {
            self.una = ack;
            self.facts |= SYN_ACKED;
        }
    }

    /// Takes note of the window that `peer` opens with `segment`.
    #[inline(always)]
    pub(super) const fn allowed(&mut self, segment: &TcpSegment, peer: &Self) {
        let window = (segment.window as u32) << (peer.scale & 0x1f);
        let edge = segment.ack.wrapping_add(window);
        if before(self.mark, edge) {
            self.mark = edge;
        }
    }

    /// Takes note of a segment that neither opens nor closes: what this direction sent and what it
    /// acknowledged of `peer`'s, both found to be plausible.
    #[inline(always)]
    pub(super) fn transferred(&mut self, segment: &TcpSegment, peer: &mut Self) {
        if self.window < segment.window {
            self.window = segment.window;
        }
        let end = segment.seq.wrapping_add(segment.payload_len);
        if before(self.next, end) {
            self.next = end;
        }
        if before(peer.una, segment.ack) {
            peer.una = segment.ack;
        }
        peer.allowed(segment, self);
    }

    /// Whether the FIN was acknowledged.
    pub(super) const fn fin_acked(&self) -> bool {
        self.knows(SENT_FIN) && self.una == self.next
    }
}
