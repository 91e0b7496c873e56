//! What both directions of a TCP connection have shown, and the state that follows from it.
//!
//! Kept are facts per direction: the sequence numbers reached, the SYN and the FIN sent, how
//! much of it the other side has acknowledged, and how far its window lets it send. The state is derived
//! from these, so that simultaneous open and close, retransmissions and reordering need no cases of
//! their own.
//!
//! A segment beyond the window of its receiver, or which acknowledges what was not sent, is refused. Both
//! ends would only answer it (RFC 9293 section 3.10.7.4, RFC 5961), so nothing is lost; and nobody who
//! guesses shifts what is known. Where it is up to an end to answer - a SYN in a connection, a RST near
//! the number expected, data long acknowledged - the segment passes and changes nothing.

mod end;

use net::header::tcp_flags::{ACK, FIN, RST, SYN};

use crate::flow::Direction;
use crate::state::{Invalid, State};
use end::{End, HALF_OPEN, PICKED_UP, Place, RENEWED, SENT_FIN, SENT_SYN, SYN_ACKED, before};

/// A SYN carries at most so much data (RFC 7413), octets.
const MOST_WITH_SYN: u32 = 0xffff;

/// The fields of a TCP header that tracking needs, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpSegment {
    /// Sequence number of the first octet.
    pub seq: u32,
    /// Acknowledgement number; meaningful with the ACK flag only.
    pub ack: u32,
    /// Octets of payload.
    pub payload_len: u32,
    /// It is the first fragment of a segment: more payload follows, nobody knows how much.
    pub cut: bool,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// Flags, see [`net::header::tcp_flags`].
    pub flags: u8,
    /// The window scale that a SYN offers (RFC 7323 section 2.2).
    pub scale: Option<u8>,
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
    pub(crate) const fn words(&self) -> ([[u32; 3]; 2], u8) {
        let (a, b) = (&self.original, &self.reply);
        ([[a.mark, a.next, a.una], [b.mark, b.next, b.una]], a.facts)
    }

    /// See [`words`](Self::words).
    pub(crate) const fn set_words(&mut self, [a, b]: [[u32; 3]; 2], octet: u8) {
        let (original, reply) = (&mut self.original, &mut self.reply);
        [original.mark, original.next, original.una] = a;
        [reply.mark, reply.next, reply.una] = b;
        original.facts = octet;
    }

    /// Whether a segment of an established connection only moves data or acknowledges it, as nearly all
    /// do. If so, [`transferred`](Self::transferred) is to follow, else [`observe`](Self::observe).
    #[inline(always)]
    pub(crate) const fn transfers(&self, direction: Direction, segment: &TcpSegment) -> bool {
        let (sender, peer) = match direction {
            Direction::Original => (&self.original, &self.reply),
            Direction::Reply => (&self.reply, &self.original),
        };
        segment.flags & (SYN | FIN | RST | ACK) == ACK
            && sender.may_send(segment.seq, sender.mark, peer)
            && peer.may_have_acked(segment.ack, sender)
    }

    /// As [`transfers`](Self::transfers), of a connection that one side has closed and whose FIN is acknowledged:
    /// nothing comes behind that.
    #[inline]
    pub(crate) const fn transfers_half_closed(
        &self,
        direction: Direction,
        segment: &TcpSegment,
    ) -> bool {
        let sender = match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        };
        let closed = sender.knows(SENT_FIN) && before(sender.next, segment.end());
        self.transfers(direction, segment) && !closed
    }

    /// Takes note of a segment that [`transfers`](Self::transfers).
    #[inline(always)]
    pub(crate) fn transferred(&mut self, direction: Direction, segment: &TcpSegment) {
        let (sender, peer) = self.ends(direction);
        sender.transferred(segment, peer);
    }

    /// Begins with `segment`, which the client sent, in the middle of a connection. It is as good as open
    /// when the server is heard.
    pub(crate) const fn pick_up(&mut self, segment: &TcpSegment) {
        self.original = End::picked_up(segment.seq, segment.end(), segment.window);
        self.reply = End::picked_up(segment.ack, segment.ack, 0);
    }

    /// See [`Flow::farewell`](crate::Flow::farewell).
    pub(crate) const fn farewell(&self, direction: Direction) -> (u32, u32) {
        let (sender, peer) = match direction {
            Direction::Original => (&self.original, &self.reply),
            Direction::Reply => (&self.reply, &self.original),
        };
        (sender.una, peer.next)
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
    /// the ISN of the client's last SYN: of the one that began the connection, or of another that passed in
    /// it since, see `RENEWED`. It is kept elsewhere, as it is hardly ever needed.
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
            control if control & RST != 0 => self.reset(state, direction, segment, *renewed),
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
            // The first SYN, or again; with another number the client has begun anew. It does not
            // postpone the end: who is never answered does not keep a flow by asking.
            State::SynSent if opening => {
                let first = !sender.knows(SENT_SYN);
                if first || sender.knows(PICKED_UP) || segment.seq != sender.mark {
                    if sender.knows(PICKED_UP) {
                        *peer = End::default();
                    }
                    *sender = End::start(segment);
                    *renewed = segment.seq;
                }
                if first { Step::Live(state) } else { Step::Pass }
            }
            State::SynSent if direction == Direction::Original || !peer.knows(SENT_SYN) => {
                Step::Invalid(Invalid::NotOpen)
            }
            State::SynSent => {
                // The answer to an older SYN, late: the client resets it (RFC 9293 section 3.5.2).
                if with_ack && !peer.is_news(segment.ack) {
                    return sender.answers_an_older(segment);
                }
                if with_ack {
                    peer.acknowledged(segment.ack);
                }
                *sender = End::start(segment);
                sender.agree(peer);
                Step::Live(State::SynReceived)
            }
            // Sent again, or the SYN-ACK of a simultaneous open.
            State::SynReceived if segment.seq == sender.mark => {
                if with_ack {
                    peer.acknowledged(segment.ack);
                }
                self.go_on(state)
            }
            State::SynReceived
                if with_ack
                    && !sender.knows(SYN_ACKED)
                    && (peer.is_news(segment.ack) || segment.ack == peer.una) =>
            {
                sender.answers_anew(segment);
                peer.acknowledged(segment.ack);
                self.go_on(state)
            }
            State::Closed if opening => Step::Reopen,
            // Newer than all that went before (RFC 9293 section 3.6.1), whichever side begins.
            State::TimeWait if !with_ack && !before(segment.seq, sender.next) => Step::Reopen,
            State::Closed if !with_ack && direction == Direction::Reply => Step::Reopen,
            // The SYN of this very connection, late: what answers it, late as well, begins nothing anew.
            _ if opening && !sender.knows(RENEWED) && segment.seq == *renewed => Step::Pass,
            // In a connection that lives, whoever still knows it answers with an acknowledgement (RFC
            // 5961 section 4), and the sender resets what is stale. In time-wait, the server may take an
            // older SYN that has a newer timestamp (RFC 6191).
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
                *peer = End::restarted(*renewed);
                *sender = End::start(segment);
                sender.agree(peer);
                Step::Live(State::SynReceived)
            }
            _ => Step::Pass,
        }
    }

    /// A segment with neither SYN nor RST.
    fn transfer(&mut self, state: State, direction: Direction, segment: &TcpSegment) -> Step {
        let (sender, peer) = self.ends(direction);
        // How far it goes will be told by what is acknowledged.
        if segment.cut {
            sender.facts |= PICKED_UP;
        }
        let picked_up = (sender.facts | peer.facts) & PICKED_UP != 0;
        match state {
            State::SynSent if picked_up => {
                if sender.catch_up(segment, peer) == Place::Outside {
                    return Step::Invalid(Invalid::OutOfWindow);
                }
                sender.sent(segment);
                peer.acknowledged(segment.ack);
                match direction {
                    Direction::Original => Step::Live(state),
                    Direction::Reply => Step::Live(self.derive()),
                }
            }
            // A server that still holds an older connection answers so; the RST which the client
            // sends for it must get through, or the client never connects.
            State::SynSent if direction == Direction::Reply && peer.knows(SENT_SYN) => {
                sender.answers_an_older(segment)
            }
            State::SynSent => Step::Invalid(Invalid::NotOpen),
            // The FIN sent again starts time-wait anew (RFC 9293 section 3.10.7.4).
            State::TimeWait if segment.has(FIN) && segment.end() == sender.next => {
                Step::Live(state)
            }
            State::TimeWait | State::Closed => Step::Pass,
            // Which of the two is right, the ends settle with a RST.
            State::SynReceived
                if sender.place(segment, sender.edge_while_opening(peer), peer)
                    != Place::Inside =>
            {
                Step::Pass
            }
            State::SynReceived => {
                sender.sent(segment);
                peer.acknowledged(segment.ack);
                self.go_on(state)
            }
            _ => {
                let mut place = sender.place(segment, sender.mark, peer);
                if place == Place::Outside && picked_up {
                    place = sender.catch_up(segment, peer);
                }
                match place {
                    Place::Outside => Step::Invalid(Invalid::OutOfWindow),
                    Place::Old => Step::Pass,
                    Place::Inside => {
                        sender.sent(segment);
                        peer.acknowledged(segment.ack);
                        peer.allowed(segment, sender);
                        self.go_on(state)
                    }
                }
            }
        }
    }

    /// A RST. It ends the connection only if its receiver takes it: a blind attacker knows
    /// the tuple, not the sequence numbers (RFC 5961 section 3).
    fn reset(
        &mut self,
        state: State,
        direction: Direction,
        segment: &TcpSegment,
        renewed: u32,
    ) -> Step {
        let (sender, peer) = self.ends(direction);
        let seq = segment.seq;
        let refused = match (state, direction) {
            (State::TimeWait | State::Closed, _) => return Step::Pass,
            (State::SynSent, Direction::Original) => {
                if peer.knows(HALF_OPEN) && seq == peer.una {
                    return Step::Pass; // meant for the older connection
                }
                let sent = sender.knows(SENT_SYN) && (seq == sender.mark || seq == sender.next);
                if !sent && !sender.knows(PICKED_UP) {
                    return Step::Invalid(Invalid::BadReset);
                }
                sender.knows(PICKED_UP) && !sender.in_flight(seq)
            }
            // Refused (RFC 9293 section 3.10.7.3).
            (State::SynSent, Direction::Reply) if !peer.knows(PICKED_UP) => {
                if !(peer.knows(SENT_SYN) && segment.has(ACK) && peer.is_news(segment.ack)) {
                    return Step::Invalid(Invalid::BadReset);
                }
                false
            }
            _ => {
                let edge = match state {
                    State::SynReceived => sender.edge_while_opening(peer),
                    _ => sender.mark,
                };
                let allowed = edge.wrapping_sub(sender.una).cast_signed().max(0);
                let inside = seq.wrapping_sub(sender.una) <= allowed.cast_unsigned();
                // What its sender sent last, though it lies beyond the window.
                if seq != sender.next && !inside {
                    // A socket that is gone answers what is late with the number that this acknowledges.
                    let late = sender.knows(SENT_FIN) && sender.may_send(seq, edge, peer);
                    // A client that calls anew resets what answers an earlier call of it; and a server that
                    // has lost the connection, and takes no other, refuses the call.
                    let answer = segment.ack.wrapping_sub(renewed).wrapping_sub(1);
                    let refuses = peer.knows(RENEWED)
                        && direction == Direction::Reply
                        && segment.has(ACK)
                        && answer <= MOST_WITH_SYN;
                    return if late || sender.knows(RENEWED) || refuses {
                        Step::Pass
                    } else {
                        Step::Invalid(Invalid::OutOfWindow)
                    };
                }
                match state {
                    // What went before it may have been lost on the way to us. Its receiver asks back
                    // (RFC 5961 section 3.2), and the answer to that settles it.
                    State::SynSent | State::Established => seq != sender.una && seq != sender.next,
                    // Nothing is left to protect but the flow of data the other way, and a RST that the
                    // receiver refuses is followed by one that it takes.
                    State::SynReceived => !sender.in_flight(seq),
                    _ => false,
                }
            }
        };
        if refused {
            Step::Pass
        } else {
            Step::Live(State::Closed)
        }
    }

    /// To the state that follows from the facts now that a segment was taken note of in `state`.
    fn go_on(&mut self, state: State) -> Step {
        let next = self.derive();
        if state == State::SynReceived && next != state {
            let Self { original, reply } = self;
            original.open(reply);
            reply.open(original);
        }
        Step::Live(next)
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
