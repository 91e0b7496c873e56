//! Counters: plain cells with one writer each, summed by whoever reads.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use conntrack::EndReason;
use crossbeam::utils::CachePadded;

use crate::verdict::{Answer, DropReason, FlowStep};

/// A number that one thread writes and any may read. Not an atomic add: a load and a store, which
/// is enough for a single writer and costs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Subtracts `n`; only the owning worker may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Sets the value; only the owning worker may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Sets the value so that whoever [`acquire`](Self::acquire)s it sees all that was written
    /// before; only the owning worker may call this.
    pub fn publish(&self, n: u64) {
        self.0.store(n, Release);
    }

    /// The value that was [`publish`](Self::publish)ed last.
    pub fn acquire(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames.
    pub packets: Counter,
    /// Octets of those frames, without FCS.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts one frame of `bytes` octets.
    #[inline]
    pub fn count(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// What one worker did on one port. By itself on its cache lines, as what a worker writes for each burst
/// must be: a line that two workers write goes back and forth between them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames taken from the port.
    pub rx: Traffic,
    /// Frames the port took.
    pub tx: Traffic,
}

/// Everything one worker counts; by itself on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// By port, in attachment order.
    pub ports: Vec<PortCounters>,
    /// By [`DropReason::index`].
    pub drops: [Counter; DropReason::ALL.len()],
    /// By [`Answer::index`].
    pub answers: [Counter; Answer::ALL.len()],
    /// By [`FlowStep::index`].
    pub forwarded: [Counter; FlowStep::ALL.len()],
    /// Frames that told us something and needed no answer.
    pub consumed_packets: Counter,
    /// Frames put aside until their next hop is known.
    pub held_packets: Counter,
    /// Fragments put aside until the first of their datagram comes.
    pub fragments_waited_packets: Counter,
    /// Packets that left in fragments, being too long for their VLAN.
    pub cut_packets: Counter,
    /// The fragments they left in.
    pub fragments_made_packets: Counter,
    /// Packets to an address that clients are translated to, taken again as if they had come in from outside.
    pub hairpin_packets: Counter,
    /// Frames handed to the workers that own their flows.
    pub handoffs_out_packets: Counter,
    /// Frames taken over from other workers.
    pub handoffs_in_packets: Counter,
    /// Frames sent by the control thread through this worker (ARP, NDP).
    pub originated_packets: Counter,
    /// ICMP errors of our own that were not sent because there had been too many.
    pub icmp_limited_total: Counter,
    /// Flows in the table now.
    pub flows: Counter,
    /// Flows opened.
    pub flows_opened_total: Counter,
    /// Flows ended, for whatever reason.
    pub flows_ended_total: Counter,
    /// Flows put out before their time because the table was full.
    pub flows_evicted_total: Counter,
    /// Clients' ports that are mapped now, independently of flows.
    pub nat_mappings: Counter,
    /// Clients that proved that their addresses are theirs.
    pub syn_proofs_total: Counter,
    /// Events that did not fit into the ring to the control thread; each is repeated by later frames.
    pub events_lost_total: Counter,
    /// Turns of the loop.
    pub turns_total: Counter,
    /// Turns that found no frame.
    pub idle_turns_total: Counter,
    /// Time spent in turns that found something to do, ns.
    pub busy_nanos_total: Counter,
    /// The configuration the worker uses.
    pub generation: Counter,
}

impl WorkerCounters {
    /// Zeroes, for a worker on `ports` ports.
    pub fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
            drops: [const { Counter(AtomicU64::new(0)) }; DropReason::ALL.len()],
            answers: [const { Counter(AtomicU64::new(0)) }; Answer::ALL.len()],
            forwarded: [const { Counter(AtomicU64::new(0)) }; FlowStep::ALL.len()],
            consumed_packets: Counter::default(),
            held_packets: Counter::default(),
            fragments_waited_packets: Counter::default(),
            cut_packets: Counter::default(),
            fragments_made_packets: Counter::default(),
            hairpin_packets: Counter::default(),
            handoffs_out_packets: Counter::default(),
            handoffs_in_packets: Counter::default(),
            originated_packets: Counter::default(),
            icmp_limited_total: Counter::default(),
            flows: Counter::default(),
            flows_opened_total: Counter::default(),
            flows_ended_total: Counter::default(),
            flows_evicted_total: Counter::default(),
            nat_mappings: Counter::default(),
            syn_proofs_total: Counter::default(),
            events_lost_total: Counter::default(),
            turns_total: Counter::default(),
            idle_turns_total: Counter::default(),
            busy_nanos_total: Counter::default(),
            generation: Counter::default(),
        }
    }

    /// Counts a drop.
    #[inline]
    pub fn count_drop(&self, reason: DropReason) {
        self.drops[reason.index()].add(1);
    }

    /// The count of one drop reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()].get()
    }
}

/// What one worker counts for one virtual server or pool member.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Connections now.
    pub connections: Counter,
    /// Connections ever.
    pub connections_total: Counter,
    /// Connections refused by a limit.
    pub refused_total: Counter,
    /// Clients asked to prove their address.
    pub challenges_total: Counter,
    /// Towards the server.
    pub original: Traffic,
    /// Towards the client.
    pub reply: Traffic,
    /// Connections that ended, by the reason.
    pub ended: [Counter; EndReason::ALL.len()],
}

/// The counters of one virtual server or pool member, a padded cell for each worker.
#[derive(Debug)]
pub struct ServiceStats(Box<[CachePadded<ServiceCounters>]>);

/// What one worker counts for one SNAT pool.
#[derive(Debug, Default)]
pub struct SnatCounters {
    /// Flows that were refused because no port was left.
    pub exhausted_total: Counter,
    /// Flows that were refused because their client has as many mappings as it may, or all of the worker's
    /// are in use.
    pub mappings_refused_total: Counter,
}

/// The counters of one SNAT pool, or of automap, a padded cell for each worker.
#[derive(Debug)]
pub struct SnatStats(Box<[CachePadded<SnatCounters>]>);

impl SnatStats {
    /// Zeroes for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }

    /// The cell of one worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> Option<&SnatCounters> {
        self.0.get(worker).map(|cell| &**cell)
    }

    /// The sum of one counter over all workers.
    pub fn sum(&self, get: impl Fn(&SnatCounters) -> &Counter) -> u64 {
        let all = self.0.iter().map(|cell| get(cell).get());
        all.fold(0, u64::wrapping_add)
    }
}

/// A sum over workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ServiceTotals {
    /// Connections now.
    pub connections: u64,
    /// Connections ever.
    pub connections_total: u64,
    /// Frames towards the server.
    pub original_packets: u64,
    /// Octets of those.
    pub original_bytes: u64,
    /// Frames towards the client.
    pub reply_packets: u64,
    /// Octets of those.
    pub reply_bytes: u64,
    /// Connections that ended, by the reason: in the order of [`EndReason::ALL`].
    pub ended: [u64; EndReason::ALL.len()],
}

impl ServiceStats {
    /// Zeroes for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }

    /// The cell of one worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> Option<&ServiceCounters> {
        self.0.get(worker).map(|cell| &**cell)
    }

    /// Connections now, of all workers.
    pub fn connections(&self) -> u64 {
        let cells = self.0.iter().map(|cell| cell.connections.get());
        cells.fold(0, u64::wrapping_add)
    }

    /// Connections refused by limits and clients asked to prove their address, of all workers.
    pub fn held_off(&self) -> (u64, u64) {
        let cells = self.0.iter();
        cells.fold((0, 0), |(refused, challenges), cell| {
            (
                refused + cell.refused_total.get(),
                challenges + cell.challenges_total.get(),
            )
        })
    }

    /// The sum over all workers.
    pub fn totals(&self) -> ServiceTotals {
        let mut sum = ServiceTotals::default();
        for cell in &self.0 {
            sum.connections = sum.connections.wrapping_add(cell.connections.get());
            sum.connections_total += cell.connections_total.get();
            sum.original_packets += cell.original.packets.get();
            sum.original_bytes += cell.original.bytes.get();
            sum.reply_packets += cell.reply.packets.get();
            sum.reply_bytes += cell.reply.bytes.get();
            for (sum, ended) in sum.ended.iter_mut().zip(&cell.ended) {
                *sum += ended.get();
            }
        }
        sum
    }
}
