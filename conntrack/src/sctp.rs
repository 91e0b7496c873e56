//! What both ends of an SCTP association have shown, and the state that follows from it.
//!
//! A packet of an association is known by its verification tag: the number that its receiver chose when
//! the association began (RFC 9260 section 8.5). Kept are, for each end, the tag that both have agreed
//! on, and the last two it has offered since: a handshake may run beside an association that lives (a
//! restart, or both ends calling each other), and the answer to an INIT sent again has another tag. An
//! offer becomes an agreement with COOKIE ACK, and not before the COOKIE ECHO that it answers has been
//! seen: its tag is known only to who has seen the INIT ACK. So nobody who merely guesses addresses and
//! ports can end an association or change what is known of it.

use net::sctp::{Chunks, chunk};

use crate::flow::Direction;
use crate::state::{Invalid, State};
use crate::tcp::{Connection, Step};

/// What one end has chosen as the tag of packets that it gets; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    /// Of the association.
    agreed: u32,
    /// In its last INIT or INIT ACK.
    offered: u32,
    /// Before that.
    older: u32,
}

impl End {
    /// Earlier offers are void.
    const fn agreed(tag: u32) -> Self {
        Self {
            agreed: tag,
            offered: tag,
            older: 0,
        }
    }

    const fn offers(&self, tag: u32) -> bool {
        tag != 0 && (tag == self.offered || tag == self.older)
    }

    const fn agrees(&self, tag: u32) -> bool {
        tag != 0 && tag == self.agreed
    }

    /// Takes note of an offer; what is `chosen` already is not displaced by a later one.
    const fn offer(&mut self, tag: u32, chosen: bool) {
        if tag == self.offered {
            return;
        }
        if chosen {
            self.older = tag;
        } else {
            self.older = self.offered;
            self.offered = tag;
        }
    }

    /// Of the two offers this one was taken.
    const fn choose(&mut self, tag: u32) {
        if tag == self.older {
            self.older = self.offered;
            self.offered = tag;
        }
    }
}

/// Both ends of an association.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Association {
    /// By the direction in which the end sends.
    ends: [End; 2],
    /// The directions that a COOKIE ECHO went which has not been answered, a bit each.
    echoed: u8,
}

/// The kinds that a handshake is made of, besides INIT.
const HANDSHAKE: [u8; 3] = [chunk::INIT_ACK, chunk::COOKIE_ECHO, chunk::COOKIE_ACK];

impl End {
    const fn of([agreed, offered, older]: [u32; 3]) -> Self {
        Self {
            agreed,
            offered,
            older,
        }
    }
}

impl Association {
    /// As it is kept in the room of a connection.
    pub(crate) const fn load(room: &Connection) -> Self {
        let ([original, reply], echoed) = room.words();
        Self {
            ends: [End::of(original), End::of(reply)],
            echoed,
        }
    }

    pub(crate) const fn store(&self, room: &mut Connection) {
        let [a, b] = &self.ends;
        let words = [
            [a.agreed, a.offered, a.older],
            [b.agreed, b.offered, b.older],
        ];
        room.set_words(words, self.echoed);
    }

    /// Takes note of a packet that was sent in `direction` when the state was `state`.
    pub(crate) fn observe(&mut self, state: State, direction: Direction, packet: &Chunks) -> Step {
        if packet.has(chunk::INIT) {
            return self.init(state, direction, packet.init_tag);
        }
        if packet.has(chunk::ABORT) || packet.has(chunk::SHUTDOWN_COMPLETE) {
            return self.end(state, direction, packet);
        }
        if HANDSHAKE.into_iter().any(|kind| packet.has(kind)) {
            return self.handshake(state, direction, packet);
        }
        let (_, receiver) = self.pair(direction);
        let closing = packet.has(chunk::SHUTDOWN_ACK);
        match state {
            // Who still holds an older association answers INIT with it (RFC 9260 section 8.5.1 (E)).
            State::CookieWait | State::CookieEchoed if closing => Step::Pass,
            _ if receiver.agrees(packet.vtag) => match state {
                State::Closed | State::ShutdownComplete => Step::Pass,
                State::Established | State::ShutdownSent | State::ShutdownReceived if closing => {
                    Step::Live(State::ShutdownAckSent)
                }
                State::Established if packet.has(chunk::SHUTDOWN) => Step::Live(match direction {
                    Direction::Original => State::ShutdownSent,
                    Direction::Reply => State::ShutdownReceived,
                }),
                _ => Step::Live(state),
            },
            // Ahead of the COOKIE ACK that makes the tag good, or the report of a stale cookie.
            _ if receiver.offers(packet.vtag) && state != State::CookieWait => Step::Pass,
            _ if receiver.offers(packet.vtag) => Step::Invalid(Invalid::NotOpen),
            _ => Step::Invalid(Invalid::BadTag),
        }
    }

    /// The end that sends in `direction`, and its peer.
    const fn pair(&mut self, direction: Direction) -> (&mut End, &mut End) {
        let [original, reply] = &mut self.ends;
        match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        }
    }

    fn init(&mut self, state: State, direction: Direction, tag: u32) -> Step {
        if matches!(state, State::Closed | State::ShutdownComplete)
            && direction == Direction::Original
        {
            return Step::Reopen;
        }
        // Once a cookie is on its way, what was offered before must not be displaced by what anybody offers.
        let chosen = self.echoed != 0;
        let (sender, _) = self.pair(direction);
        let first = sender.offered == 0;
        sender.offer(tag, chosen);
        match state {
            // Who is never answered does not keep a flow by asking again.
            State::CookieWait | State::CookieEchoed if first => Step::Live(state),
            State::Closed | State::ShutdownComplete => Step::Live(State::CookieWait),
            // An association that lives goes on until the handshake has shown who asks.
            _ => Step::Pass,
        }
    }

    /// INIT ACK, COOKIE ECHO and COOKIE ACK.
    fn handshake(&mut self, state: State, direction: Direction, packet: &Chunks) -> Step {
        let tag = packet.vtag;
        let (mine, theirs) = (1u8 << direction as u8, 1u8 << direction.opposite() as u8);
        let echoed = self.echoed;
        let (sender, receiver) = self.pair(direction);
        let (offered, agreed) = (receiver.offers(tag), receiver.agrees(tag));
        if !(offered || agreed) {
            return Step::Invalid(Invalid::BadTag);
        }
        if matches!(state, State::Closed | State::ShutdownComplete) {
            return Step::Pass;
        }
        let opening = matches!(state, State::CookieWait | State::CookieEchoed);
        if packet.has(chunk::INIT_ACK) {
            sender.offer(packet.init_tag, echoed & theirs != 0);
            return if opening {
                Step::Live(state)
            } else {
                Step::Pass
            };
        }
        if packet.has(chunk::COOKIE_ECHO) {
            if offered {
                receiver.choose(tag);
            } else {
                receiver.offer(tag, false);
            }
            self.echoed |= mine;
            return match state {
                _ if opening => Step::Live(State::CookieEchoed),
                _ if agreed => Step::Live(state),
                _ => Step::Pass,
            };
        }
        if echoed & theirs == 0 {
            return match state {
                _ if opening => Step::Invalid(Invalid::NotOpen),
                _ if agreed => Step::Live(state),
                _ => Step::Pass,
            };
        }
        // The COOKIE ACK that was waited for: what was offered is agreed on.
        *receiver = End::agreed(tag);
        *sender = End::agreed(sender.offered);
        self.echoed = 0;
        Step::Live(State::Established)
    }

    /// ABORT and SHUTDOWN COMPLETE; with the T bit they carry their sender's tag.
    fn end(&mut self, state: State, direction: Direction, packet: &Chunks) -> Step {
        let followed = self.echoed & 1 << direction as u8 != 0;
        let (sender, receiver) = self.pair(direction);
        let whose = if packet.reflected { sender } else { receiver };
        let (offered, agreed) = (whose.offers(packet.vtag), whose.agrees(packet.vtag));
        let opening = matches!(state, State::CookieWait | State::CookieEchoed);
        let abort = packet.has(chunk::ABORT);
        // Anybody may offer a tag and then end what was offered. That is no other handshake's end, so long
        // as another may be under way: only the one offer there is, or the one that was taken, counts. And who
        // answers with its own tag has no handshake under way (RFC 9260 section 8.4).
        let only = whose.older == 0 || followed && whose.offered == packet.vtag;
        let ends = offered && only && !packet.reflected;
        match state {
            State::Closed | State::ShutdownComplete if agreed || offered => Step::Pass,
            // The answer to the SHUTDOWN ACK of an older association.
            _ if opening && !abort && packet.reflected => Step::Pass,
            _ if opening && abort && ends => Step::Live(State::Closed),
            _ if agreed && abort => Step::Live(State::Closed),
            State::ShutdownAckSent if agreed => Step::Live(State::ShutdownComplete),
            // Of a handshake beside an association that lives, or ahead of the SHUTDOWN ACK.
            _ if offered || agreed => Step::Pass,
            _ => Step::Invalid(Invalid::BadTag),
        }
    }
}
