//! Which queues of a port each worker has, and by whom it sends where it has none.

use std::collections::BTreeMap;

use config::SpreadHash;
use dpdk::{EthPort, Rss, RxQueue, TxQueue};
use net::PortId;

use crate::dpdk_port::Queues;
use crate::tables::Tables;

/// The queues of one port, by worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes {
    /// The receive queue of each worker that polls one.
    pub rx: Vec<Option<u16>>,
    /// The transmit queue of each worker that has one.
    pub tx: Vec<Option<u16>>,
    /// The worker that each one sends by: itself if it can.
    pub senders: Vec<u16>,
}

impl Lanes {
    /// For a port with so many queues, at least one each way and not more than workers. With one for each
    /// worker, queue and worker have the same number. Fewer fall to workers as `order` names them, which
    /// has each of them once.
    pub fn new(order: &[u16], rx_queues: u16, tx_queues: u16) -> Self {
        let workers = u16::try_from(order.len()).unwrap_or(u16::MAX).max(1);
        let (rx_queues, tx_queues) = (rx_queues.max(1), tx_queues.max(1));
        let owner = |queues: u16, queue: u16| {
            if queues >= workers {
                return queue;
            }
            order.get(usize::from(queue)).copied().unwrap_or(0)
        };
        let given = |queues: u16| {
            let mut given = vec![None; usize::from(workers)];
            for queue in 0..queues.min(workers) {
                if let Some(slot) = given.get_mut(usize::from(owner(queues, queue))) {
                    *slot = Some(queue);
                }
            }
            given
        };
        let tx = given(tx_queues);
        let senders = (0..workers)
            .zip(&tx)
            .map(|(worker, queue)| match queue {
                Some(_) => worker,
                // Spread over those who can.
                None => owner(tx_queues, worker % tx_queues),
            })
            .collect();
        Self {
            rx: given(rx_queues),
            tx,
            senders,
        }
    }

    /// Deals the queues of the port out, by worker.
    pub fn deal(&self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Vec<Queues> {
        let (mut rx, mut tx) = (by_number(rx), by_number(tx));
        self.rx
            .iter()
            .zip(&self.tx)
            .map(|(rx_queue, tx_queue)| Queues {
                rx: rx_queue.and_then(|queue| rx.remove(&queue)),
                tx: tx_queue.and_then(|queue| tx.remove(&queue)),
            })
            .collect()
    }
}

/// Queues by their number.
fn by_number<Q>(queues: Vec<Q>) -> BTreeMap<u16, Q> {
    (0..).zip(queues).collect()
}

/// How packets come to their workers at a port, for the log and the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spreading {
    /// There is but one worker.
    OneWorker,
    /// The card spreads by the hash and the table it was told: packets of translated flows come in at their
    /// worker in both directions.
    AsTold,
    /// The card spreads by one address, as `cmp_hash` wants it.
    ByAddress,
    /// The device has a queue for each worker and spreads in its own way.
    OwnWay,
    /// The device has fewer receive queues than there are workers.
    FewQueues,
}

impl Spreading {
    /// Name for scripts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OneWorker => "one-worker",
            Self::AsTold => "rss",
            Self::ByAddress => "rss-address",
            Self::OwnWay => "queues",
            Self::FewQueues => "few-queues",
        }
    }

    /// For the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::OneWorker => "one worker takes all",
            Self::AsTold => {
                "the card brings packets to their workers (RSS with our key and table); what is not \
                 translated is handed over where need be"
            }
            Self::ByAddress => {
                "the card spreads by one address (cmp_hash); workers hand over what is another's"
            }
            Self::OwnWay => {
                "the device spreads over one queue for each worker in its own way; workers hand over \
                 what is another's"
            }
            Self::FewQueues => {
                "the device has fewer queues than there are workers; those that poll it hand over \
                 what is another's (several such ports in a VLAN, one for each worker, share the work)"
            }
        }
    }
}

/// What the `cmp_hash` of the VLANs on a port asks of its device, if they agree.
pub fn wanted_rss(tables: &Tables, port: PortId) -> Rss {
    let vlans = tables.vlans.iter();
    let mut hashes = vlans
        .filter(|vlan| vlan.ports.contains(&port))
        .map(|vlan| tables.spread.of_vlan(vlan.index));
    let first = hashes.next().unwrap_or_default();
    match first {
        _ if hashes.any(|hash| hash != first) => Rss::FiveTuple,
        SpreadHash::Default => Rss::FiveTuple,
        SpreadHash::SrcAddr => Rss::SourceOnly,
        SpreadHash::DstAddr => Rss::DestinationOnly,
    }
}

/// How packets come from a port to their workers.
pub fn spreading(port: &EthPort, workers: u16) -> Spreading {
    match port.rss() {
        _ if workers == 1 => Spreading::OneWorker,
        _ if port.config().rx_queues < workers => Spreading::FewQueues,
        _ if port.spreads_as_told() => Spreading::AsTold,
        Rss::SourceOnly | Rss::DestinationOnly => Spreading::ByAddress,
        _ => Spreading::OwnWay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_enough_queues_each_worker_has_its_own() {
        for order in [[0, 1, 2], [2, 0, 1]] {
            let lanes = Lanes::new(&order, 3, 3);
            assert_eq!(lanes.rx, [Some(0), Some(1), Some(2)]);
            assert_eq!(lanes.tx, lanes.rx);
            assert_eq!(lanes.senders, [0, 1, 2]);
        }
    }

    #[test]
    fn ports_of_one_queue_are_dealt_out_to_workers() {
        let first = Lanes::new(&[0, 1], 1, 1);
        assert_eq!((first.rx, first.senders), (vec![Some(0), None], vec![0, 0]));
        let second = Lanes::new(&[1, 0], 1, 1);
        assert_eq!(second.rx, [None, Some(0)]);
        assert_eq!(second.senders, [1, 1]);
    }

    #[test]
    fn queues_are_used_once_and_who_has_none_sends_by_one_who_has() {
        for first in 0..9 {
            for workers in 1..=9u16 {
                let order: Vec<u16> = (0..workers).map(|n| (first + n) % workers).collect();
                for (rx_queues, tx_queues) in (1..=9).flat_map(|rx| (1..=9).map(move |tx| (rx, tx)))
                {
                    let lanes = Lanes::new(&order, rx_queues, tx_queues);
                    for (lane, queues) in [(&lanes.rx, rx_queues), (&lanes.tx, tx_queues)] {
                        let mut used: Vec<u16> = lane.iter().flatten().copied().collect();
                        used.sort_unstable();
                        let all: Vec<u16> = (0..queues.min(workers)).collect();
                        assert_eq!(used, all, "{order:?} {rx_queues} {tx_queues}");
                    }
                    for (worker, sender) in lanes.senders.iter().enumerate() {
                        assert!(lanes.tx[usize::from(*sender)].is_some());
                        let own = lanes.tx[worker].is_some();
                        assert!(!own || usize::from(*sender) == worker);
                    }
                }
            }
        }
    }
}
