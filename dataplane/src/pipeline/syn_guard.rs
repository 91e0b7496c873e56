//! Protection from floods of SYNs with forged addresses.
//!
//! Above so many new connections per second, a SYN from an address that has not proved itself opens nothing. It is
//! answered with a SYN-ACK that acknowledges a number nobody can guess. The owner of the address, if it has
//! sent the SYN, must answer that with a reset carrying the number (RFC 9293 section 3.10.7.3), by which it
//! is known for some minutes: its SYN, sent again, opens the connection as always. Nothing is kept of those
//! who do not answer, and as tmm takes no part in the connection itself, no sequence numbers and
//! options have to be translated for its whole life, which SYN cookies would ask for.

use lb::VirtualServer;
use net::header::{Tcp, tcp_flags, view};
use net::{IpProto, Layers, Packet, Timestamp};

use super::{Arrival, State};
use crate::defences::Syn;
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, Verdict};

const SECOND: u64 = 1_000_000_000;
/// How long after a question its answer may come.
const ANSWERED_WITHIN: u64 = 128 * SECOND;

/// What a worker knows of the SYNs of its virtual servers.
#[derive(Debug, Default)]
pub(super) struct SynGuard {
    /// By virtual server.
    rates: Vec<Rate>,
}

/// New connections of a virtual server: up to a second's worth at once, then evenly.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    /// When all that were let in would have come one by one, in parts of a nanosecond.
    until: u128,
    /// When somebody was asked last, ns; 0 is never.
    asked: u64,
}

impl Rate {
    fn admits(&mut self, now: Timestamp, per_second: u32) -> bool {
        // Fine enough that what the division leaves lets nobody in.
        let [now, second] = [now.as_nanos(), SECOND].map(|nanos| u128::from(nanos) << 32);
        let interval = second / u128::from(per_second.max(1));
        // The clock may have gone back.
        let until = self.until.clamp(now, now + second + interval);
        let admitted = until - now + interval <= second;
        self.until = if admitted { until + interval } else { until };
        admitted
    }
}

impl SynGuard {
    pub(super) fn refresh(&mut self, tables: &Tables) {
        let last = tables.limits.syn.iter().map(|id| id.index()).max();
        let wanted = last.map_or(0, |last| last + 1);
        if self.rates.len() < wanted {
            self.rates.resize(wanted, Rate::default());
        }
    }
}

impl State {
    /// What is answered to a SYN instead of opening a connection, if it is to be.
    pub(super) fn challenge(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Option<Verdict> {
        let threshold = virtual_server.profile.syn_threshold;
        let (now, key) = (arrival.now, &layers.key);
        let is_syn = key.proto == IpProto::TCP && layers.tcp_flags & tcp_flags::SYN != 0;
        if threshold == 0 || !is_syn || tables.draining || tables.defences.knows(&key.src, now) {
            return None;
        }
        let share = (threshold / u32::from(self.steering.workers())).max(1);
        let rate = self.syn_guard.rates.get_mut(virtual_server.id.index())?;
        if rate.admits(now, share) {
            return None;
        }
        rate.asked = now.as_nanos().max(1);
        let syn = Syn {
            seq: view::<Tcp>(packet.data(), layers.l4)?.seq.get(),
            payload_len: u32::try_from(layers.payload_len()).unwrap_or(0),
        };
        let (ack, seq) = tables.defences.question(key, syn, now);
        let stats = tables.virtual_server_stats.get(virtual_server.id.index());
        if let Some(cell) = stats.and_then(|stats| stats.worker(self.worker)) {
            cell.challenges_total.add(1);
        }
        if net::emit::challenge_in_place(packet, layers, seq, ack).is_err() {
            return Some(Verdict::Drop(DropReason::NoRoom));
        }
        Some(self.answer_back(tables, arrival, packet, layers, Answer::SynChallenge))
    }

    /// What a reset without a flow says, if it is about a question of ours.
    pub(super) fn proof(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Option<Verdict> {
        let (now, key) = (arrival.now, &layers.key);
        if layers.tcp_flags & tcp_flags::RST == 0 || virtual_server.profile.syn_threshold == 0 {
            return None;
        }
        let seq = view::<Tcp>(packet.data(), layers.l4)?.seq.get();
        if tables.defences.is_answer(key, seq, now) {
            tables.defences.remember(&key.src, now);
            self.counters.syn_proofs_total.add(1);
            return Some(Verdict::Consumed);
        }
        let rate = self.syn_guard.rates.get(virtual_server.id.index())?;
        let lately = rate.asked != 0 && now.as_nanos().abs_diff(rate.asked) < ANSWERED_WITHIN;
        lately.then_some(Verdict::Drop(DropReason::BadSynProof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn as_many_as_the_threshold_says_are_let_in_at_once_and_per_second_from_then_on() {
        for threshold in [1, 2, 3, 7, 1000, 999_983] {
            let mut rate = Rate::default();
            let mut admitted = |now: u64, tries: u32| {
                (0..tries)
                    .filter(|_| rate.admits(at(now), threshold))
                    .count()
            };
            let threshold = usize::try_from(threshold).unwrap();
            assert_eq!(admitted(SECOND, 2_000_000), threshold);
            let mut later = 0;
            for n in 1..=2000 {
                later += admitted(SECOND + n * SECOND / 1000, 2000);
            }
            assert!(
                later.abs_diff(2 * threshold) <= 2 + threshold / 100,
                "{later} {threshold}"
            );
            // The clock goes back by an hour: not for long does it let nobody in.
            let _ = admitted(5000 * SECOND, 1);
            assert!(admitted(1000 * SECOND, 10) <= 10);
            assert!(admitted(1002 * SECOND, 10) > 0);
        }
    }
}
