//! What both directions of a TCP connection have shown, and the state that follows from it.
//!
//! Kept are facts per direction: the sequence numbers reached, the SYN and the FIN sent, and how
//! much of it the other side has acknowledged. The state is derived from these, so that
//! simultaneous open and close, retransmissions and reordering need no cases of their own.
//!
//! Windows are recorded but not enforced yet. Numbers that are off by more than any window in use
//! are let pass as strays, so that a sender who guesses cannot shift what is known.

use net::header::tcp_flags::{ACK, FIN, RST, SYN};

use crate::flow::Direction;
use crate::state::{Invalid, State};

/// The fields of a TCP header that tracking needs, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpSegment {
    /// Sequence number of the first octet.
    pub seq: u32,
    /// Acknowledgement number; meaningful with the ACK flag only.
    pub ack: u32,
    /// Octets of payload.
    pub payload_len: u32,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// Flags, see [`net::header::tcp_flags`].
    pub flags: u8,
}

impl TcpSegment {
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number behind the segment; SYN and FIN take one each.
    const fn end(&self) -> u32 {
        let control = self.has(SYN) as u32 + self.has(FIN) as u32;
        self.seq
            .wrapping_add(self.payload_len)
            .wrapping_add(control)
    }
}

/// Octets in flight that are believed: 64 MiB, ten times what hosts allow by default.
const REACH: u32 = 1 << 26;

/// Whether `a` comes before `b` on the circle of sequence numbers (RFC 9293 section 3.4).
const fn before(a: u32, b: u32) -> bool {
    let distance = b.wrapping_sub(a);
    distance != 0 && distance < 1 << 31
}

/// Facts about one direction, named after its sender's variables (RFC 9293 section 3.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    /// ISS: sequence number of the SYN.
    isn: u32,
    /// SND.NXT: behind the last octet sent; final once the FIN was sent.
    next: u32,
    /// SND.UNA: what the other side has acknowledged.
    una: u32,
    /// The last window advertised, not scaled.
    window: u16,
    /// `SENT_SYN` and so on.
    facts: u8,
}

/// A SYN was sent; `isn`, `next` and `una` are valid.
const SENT_SYN: u8 = 1 << 0;
/// The SYN was acknowledged.
const SYN_ACKED: u8 = 1 << 1;
/// A FIN was sent.
const SENT_FIN: u8 = 1 << 2;
/// In SYN_SENT, the other side answered from an older connection (RFC 9293 section 3.5.1):
/// `una` of this direction is the acknowledgement it sent.
const HALF_OPEN: u8 = 1 << 3;
/// The client sent another SYN in a live connection; a server that has lost the connection may
/// take it, and then both begin anew.
const RENEWED: u8 = 1 << 4;

impl End {
    const fn knows(&self, fact: u8) -> bool {
        self.facts & fact != 0
    }

    /// A SYN starts the direction.
    const fn start(syn: &TcpSegment) -> Self {
        Self {
            isn: syn.seq,
            next: syn.end(),
            una: syn.seq,
            window: syn.window,
            facts: SENT_SYN,
        }
    }

    /// Whether `seq` is from the first number not acknowledged to the next one to be sent.
    const fn in_flight(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.una) <= self.next.wrapping_sub(self.una)
    }

    /// Whether `ack` acknowledges something sent and not acknowledged before.
    const fn is_news(&self, ack: u32) -> bool {
        ack != self.una && self.in_flight(ack)
    }

    /// Whether a segment can be this direction's, sent anew or ahead of what is lost.
    const fn may_send(&self, segment: &TcpSegment) -> bool {
        let lowest = self.una.wrapping_sub(REACH);
        let reach = self.next.wrapping_sub(lowest).wrapping_add(REACH);
        segment.end().wrapping_sub(lowest) <= reach
    }

    /// Whether `ack` can acknowledge what this direction sent, be it late
    /// (RFC 5961 section 5.2).
    const fn may_have_acked(&self, ack: u32) -> bool {
        let lowest = self.una.wrapping_sub(REACH);
        ack.wrapping_sub(lowest) <= self.next.wrapping_sub(lowest)
    }

    /// Takes note of what this direction sent.
    fn sent(&mut self, segment: &TcpSegment) {
        self.window = segment.window;
        if self.knows(SENT_FIN) {
            return; // nothing new comes behind a FIN
        }
        let end = segment.end();
        if before(self.next, end) {
            self.next = end;
        }
        if segment.has(FIN) && end == self.next {
            self.facts |= SENT_FIN;
        }
    }

    /// Takes note of what the other side acknowledged.
    fn acknowledged(&mut self, ack: u32) {
        if self.is_news(ack) {
            self.una = ack;
            self.facts |= SYN_ACKED;
        }
    }

    const fn fin_acked(&self) -> bool {
        self.knows(SENT_FIN) && self.una == self.next
    }
}

/// What a segment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A sign of life: go to this state, perhaps the present one.
    Live(State),
    /// Let it pass, but it neither changes the state nor postpones the end of the flow.
    Pass,
    /// See [`Observed::Reopen`](crate::Observed::Reopen).
    Reopen,
    /// Does not belong.
    Invalid(Invalid),
}

/// Both directions of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    original: End,
    reply: End,
}

impl Connection {
    /// The facts of the sender in `direction`, and of its peer.
    fn ends(&mut self, direction: Direction) -> (&mut End, &mut End) {
        match direction {
            Direction::Original => (&mut self.original, &mut self.reply),
            Direction::Reply => (&mut self.reply, &mut self.original),
        }
    }

    /// Whether a segment that began at `seq` can be one that was sent in `direction` and is not acknowledged
    /// yet: what an ICMP error can be about (RFC 5927 section 4.1). A keepalive begins an octet early.
    pub(crate) const fn may_have_sent(&self, direction: Direction, seq: u32) -> bool {
        let sender = match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        };
        sender.in_flight(seq) || sender.in_flight(seq.wrapping_add(1))
    }

    /// The room of a connection as six words and an octet, for protocols that keep other facts in it.
    pub(crate) const fn words(&self) -> ([u32; 6], u8) {
        let (a, b) = (&self.original, &self.reply);
        ([a.isn, a.next, a.una, b.isn, b.next, b.una], a.facts)
    }

    /// See [`words`](Self::words).
    pub(crate) const fn set_words(&mut self, [a, b, c, d, e, f]: [u32; 6], octet: u8) {
        let (original, reply) = (&mut self.original, &mut self.reply);
        (original.isn, original.next, original.una) = (a, b, c);
        (reply.isn, reply.next, reply.una) = (d, e, f);
        original.facts = octet;
    }

    /// Takes note of a segment of an established connection that only moves data or acknowledges it,
    /// as nearly all do; whether it was one. If not, nothing has changed, and
    /// [`observe`](Self::observe) is to be asked.
    #[inline(always)]
    pub(crate) fn transfers(&mut self, direction: Direction, segment: &TcpSegment) -> bool {
        let (sender, peer) = self.ends(direction);
        let plain = segment.flags & (SYN | FIN | RST | ACK) == ACK
            && (sender.facts | peer.facts) & SENT_FIN == 0
            && sender.may_send(segment)
            && peer.may_have_acked(segment.ack);
        if plain {
            sender.window = segment.window;
            let end = segment.seq.wrapping_add(segment.payload_len);
            if before(sender.next, end) {
                sender.next = end;
            }
            peer.acknowledged(segment.ack);
        }
        plain
    }

    /// Takes note that `direction` has sent all before the sequence number `end`, though not in a
    /// segment that was seen whole.
    pub(crate) fn sent_as_far_as(&mut self, direction: Direction, end: u32) {
        let (sender, _) = self.ends(direction);
        let longest = sender.next.wrapping_add(u32::from(u16::MAX));
        if !sender.knows(SENT_FIN) && before(sender.next, end) && !before(longest, end) {
            sender.next = end;
        }
    }

    /// Takes note of `segment`, which was sent in `direction` when the state was `state`. `renewed` is
    /// the ISN of the last SYN that passed from the client in a live connection, see `RENEWED`: kept
    /// elsewhere, as it is hardly ever needed.
    pub(crate) fn observe(
        &mut self,
        state: State,
        direction: Direction,
        segment: &TcpSegment,
        renewed: &mut u32,
    ) -> Step {
        match segment.flags & (SYN | FIN | RST | ACK) {
            0 | FIN => Step::Invalid(Invalid::Flags),
            control if (control & (SYN | FIN | RST)).count_ones() > 1 => {
                Step::Invalid(Invalid::Flags)
            }
            control if control & RST != 0 => self.reset(state, direction, segment),
            control if control & SYN != 0 => self.synchronise(state, direction, segment, renewed),
            _ => self.transfer(state, direction, segment),
        }
    }

    /// A SYN or SYN-ACK.
    fn synchronise(
        &mut self,
        state: State,
        direction: Direction,
        segment: &TcpSegment,
        renewed: &mut u32,
    ) -> Step {
        let (sender, peer) = self.ends(direction);
        let with_ack = segment.has(ACK);
        let opening = direction == Direction::Original && !with_ack;
        match state {
            // The first SYN, or again; with another number the client has begun anew.
            State::SynSent if opening => {
                if segment.seq != sender.isn || !sender.knows(SENT_SYN) {
                    *sender = End::start(segment);
                }
                Step::Live(state)
            }
            State::SynSent if direction == Direction::Original || !peer.knows(SENT_SYN) => {
                Step::Invalid(Invalid::NotOpen)
            }
            State::SynSent => {
                if with_ack {
                    if !peer.is_news(segment.ack) {
                        return Step::Invalid(Invalid::BadAck);
                    }
                    peer.acknowledged(segment.ack);
                }
                *sender = End::start(segment);
                Step::Live(State::SynReceived)
            }
            // Sent again, or the SYN-ACK of a simultaneous open.
            State::SynReceived if segment.seq == sender.isn => {
                sender.window = segment.window;
                if with_ack {
                    peer.acknowledged(segment.ack);
                }
                Step::Live(self.derive())
            }
            State::TimeWait if opening => {
                if before(segment.seq, sender.next) {
                    Step::Invalid(Invalid::OldSyn)
                } else {
                    Step::Reopen
                }
            }
            State::Closed if opening => Step::Reopen,
            State::TimeWait | State::Closed => Step::Pass,
            // A live connection. Whoever still knows it answers with an acknowledgement (RFC 5961
            // section 4), and the sender resets what is stale.
            _ if opening => {
                sender.facts |= RENEWED;
                *renewed = segment.seq;
                Step::Pass
            }
            // Whoever does not know it any more takes the SYN.
            _ if with_ack
                && direction == Direction::Reply
                && peer.knows(RENEWED)
                && segment.ack == renewed.wrapping_add(1) =>
            {
                *peer = End {
                    isn: *renewed,
                    next: segment.ack,
                    una: segment.ack,
                    window: peer.window,
                    facts: SENT_SYN | SYN_ACKED,
                };
                *sender = End::start(segment);
                Step::Live(State::SynReceived)
            }
            _ => Step::Pass,
        }
    }

    /// A segment with neither SYN nor RST.
    fn transfer(&mut self, state: State, direction: Direction, segment: &TcpSegment) -> Step {
        let (sender, peer) = self.ends(direction);
        match state {
            // A server that still holds an older connection answers so; the RST which the client
            // sends for it must get through, or the client never connects.
            State::SynSent if direction == Direction::Reply && peer.knows(SENT_SYN) => {
                sender.una = segment.ack;
                sender.facts = HALF_OPEN;
                Step::Pass
            }
            State::SynSent => Step::Invalid(Invalid::NotOpen),
            // A FIN sent again starts time-wait anew (RFC 9293 section 3.10.7.4).
            State::TimeWait if segment.has(FIN) => Step::Live(state),
            State::TimeWait | State::Closed => Step::Pass,
            _ if !sender.may_send(segment) || !peer.may_have_acked(segment.ack) => Step::Pass,
            _ => {
                sender.sent(segment);
                peer.acknowledged(segment.ack);
                Step::Live(self.derive())
            }
        }
    }

    /// A RST. It ends the connection only if its sender could have sent it: a blind attacker knows
    /// the tuple, not the sequence numbers (RFC 5961 section 3).
    fn reset(&mut self, state: State, direction: Direction, segment: &TcpSegment) -> Step {
        let (sender, peer) = self.ends(direction);
        let plausible = match (state, direction) {
            (State::TimeWait | State::Closed, _) => return Step::Pass,
            (State::SynSent, Direction::Original) => {
                if peer.knows(HALF_OPEN) && segment.seq == peer.una {
                    return Step::Pass; // meant for the older connection
                }
                sender.knows(SENT_SYN) && (segment.seq == sender.isn || segment.seq == sender.next)
            }
            // Refused (RFC 9293 section 3.10.7.3).
            (State::SynSent, Direction::Reply) => {
                peer.knows(SENT_SYN) && segment.has(ACK) && peer.is_news(segment.ack)
            }
            _ => {
                // What went before it may have been lost on the way to us. Its receiver asks back
                // (RFC 5961 section 3.2), and the answer to that settles it.
                let ahead = segment.seq.wrapping_sub(sender.next);
                if (1..=u32::from(peer.window)).contains(&ahead) {
                    return Step::Pass;
                }
                sender.in_flight(segment.seq)
            }
        };
        if plausible {
            Step::Live(State::Closed)
        } else {
            Step::Invalid(Invalid::BadReset)
        }
    }

    /// The state that follows from the facts, once both sides have sent a SYN.
    fn derive(&self) -> State {
        let (a, b) = (&self.original, &self.reply);
        if !(a.knows(SYN_ACKED) && b.knows(SYN_ACKED)) {
            return State::SynReceived;
        }
        match (a.knows(SENT_FIN), b.knows(SENT_FIN)) {
            (false, false) => State::Established,
            (true, true) if a.fin_acked() && b.fin_acked() => State::TimeWait,
            (true, true) => State::LastAck,
            _ if a.fin_acked() || b.fin_acked() => State::CloseWait,
            _ => State::FinWait,
        }
    }
}
