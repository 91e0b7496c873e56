//! How workers hand frames to each other.
//!
//! A worker that gets a packet of another's flow, or has a frame for a port that only another can send
//! by, puts it into a ring of its own towards that worker, which empties it at the start of its next
//! turns. Each ring has one writer and one reader and is bounded: nobody waits; what does not fit
//! is dropped and counted. Frames keep their order. Whoever is gone when all workers have ended
//! gives the frames that are left back.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use net::PortId;

use crate::steer::{Asked, Steering};
use crate::verdict::Round;

/// Frames under way from one worker to all others, at most, as long as there are few of them.
const FRAMES_OUT: usize = 2048;
/// Frames a ring has room for at least: two bursts.
const RING_MIN: usize = 64;

/// A frame handed over.
#[derive(Debug)]
pub enum Handed<F> {
    /// As it came in by `port`, or by hairpin: its flow is, or would be, the receiver's.
    Arrived {
        /// The frame.
        frame: F,
        /// The port it came in by.
        port: PortId,
        /// Who has looked for its flow.
        asked: Asked,
        /// That it has come round to us.
        round: Option<Round>,
    },
    /// Ready to be sent by `port`, by which the receiver can send.
    Leaving {
        /// The frame.
        frame: F,
        /// The port it is to leave by.
        port: PortId,
    },
}

type Ring<F> = Arc<ArrayQueue<Handed<F>>>;

/// One worker's place among the others.
#[derive(Debug)]
pub struct Crew<F> {
    me: u16,
    steering: Arc<Steering>,
    /// By worker; one's own stays empty.
    inbox: Vec<Ring<F>>,
    outbox: Vec<Ring<F>>,
    /// By port: the worker to send by, from here.
    senders: Vec<u16>,
}

/// Room in each ring between `workers` workers.
const fn ring_room(workers: u16) -> usize {
    let others = if workers > 1 { workers as usize - 1 } else { 1 };
    let room = FRAMES_OUT / others;
    if room < RING_MIN { RING_MIN } else { room }
}

/// Frames that may be in the rings between `workers` workers at once.
pub const fn frames_at_most(workers: u16) -> usize {
    let workers_long = workers as usize;
    if workers_long < 2 {
        return 0;
    }
    workers_long * (workers_long - 1) * ring_room(workers)
}

impl<F> Crew<F> {
    /// The places of all workers that `steering` is for. `senders` says for each of them by which
    /// worker it sends, by port: itself where it has a queue of its own.
    pub fn assemble(
        steering: &Arc<Steering>,
        mut senders: impl FnMut(u16) -> Vec<u16>,
    ) -> Vec<Self> {
        let workers = steering.workers();
        let ring = |_| Arc::new(ArrayQueue::new(ring_room(workers)));
        // By sender, then receiver.
        let rings: Vec<Vec<Ring<F>>> = (0..workers)
            .map(|_| (0..workers).map(ring).collect())
            .collect();
        (0..workers)
            .zip(&rings)
            .map(|(me, outbox)| Self {
                me,
                steering: Arc::clone(steering),
                inbox: rings
                    .iter()
                    .filter_map(|from| from.get(usize::from(me)).cloned())
                    .collect(),
                outbox: outbox.clone(),
                senders: senders(me),
            })
            .collect()
    }

    /// This worker's number.
    pub const fn me(&self) -> u16 {
        self.me
    }

    /// Who flows belong to.
    pub const fn steering(&self) -> &Arc<Steering> {
        &self.steering
    }

    /// The worker that frames leave by `port` through.
    #[inline]
    pub fn sender(&self, port: PortId) -> u16 {
        self.senders
            .get(usize::from(port.0))
            .copied()
            .unwrap_or(self.me)
    }

    /// Hands a frame to a worker.
    ///
    /// # Errors
    /// The frame, if that worker's ring has no room, or there is no such worker.
    #[inline]
    pub fn hand_over(&self, to: u16, handed: Handed<F>) -> Result<(), Handed<F>> {
        match self.outbox.get(usize::from(to)) {
            Some(ring) if to != self.me => ring.push(handed),
            _ => Err(handed),
        }
    }

    /// The next frame from the worker `from`.
    #[inline]
    pub fn take(&self, from: u16) -> Option<Handed<F>> {
        let ring = self.inbox.get(usize::from(from))?;
        // Cheaper than trying where there is nothing, as mostly.
        if ring.is_empty() { None } else { ring.pop() }
    }

    /// Whether a frame waits for this worker.
    pub fn has_input(&self) -> bool {
        self.inbox.iter().any(|ring| !ring.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

    use super::*;

    fn crew(workers: u16) -> Vec<Crew<u32>> {
        let steering = Arc::new(Steering::new(workers, 1));
        Crew::assemble(&steering, |me| vec![me, 0])
    }

    fn leaving(frame: u32) -> Handed<u32> {
        Handed::Leaving {
            frame,
            port: PortId(0),
        }
    }

    fn frame(handed: Handed<u32>) -> u32 {
        let (Handed::Arrived { frame, .. } | Handed::Leaving { frame, .. }) = handed;
        frame
    }

    #[test]
    fn frames_reach_the_worker_they_are_for_in_order() {
        let crew = crew(3);
        for n in 0..10 {
            crew[0].hand_over(2, leaving(n)).unwrap();
            crew[1].hand_over(2, leaving(100 + n)).unwrap();
        }
        assert!(!crew[0].has_input() && !crew[1].has_input() && crew[2].has_input());
        let from = |worker| std::iter::from_fn(move || Some(worker));
        for (worker, first) in [(0, 0), (1, 100)] {
            let got: Vec<u32> = from(worker)
                .map_while(|w| crew[2].take(w))
                .map(frame)
                .collect();
            assert_eq!(got, (first..first + 10).collect::<Vec<_>>());
        }
        assert!(!crew[2].has_input());
    }

    #[test]
    fn a_full_ring_gives_the_frame_back() {
        let crew = crew(2);
        let mut handed = 0;
        let back = loop {
            match crew[0].hand_over(1, leaving(handed)) {
                Ok(()) => handed += 1,
                Err(back) => break frame(back),
            }
        };
        assert_eq!(handed as usize, ring_room(2));
        assert_eq!(back, handed);
        assert_eq!(frame(crew[1].take(0).unwrap()), 0);
        assert!(crew[0].hand_over(1, leaving(1)).is_ok());
    }

    #[test]
    fn nobody_hands_frames_to_himself_or_to_nobody() {
        let crew = crew(2);
        assert!(crew[0].hand_over(0, leaving(1)).is_err());
        assert!(crew[0].hand_over(2, leaving(1)).is_err());
        assert!(crew[0].take(7).is_none());
    }

    #[test]
    fn the_last_worker_to_go_gives_back_what_nobody_took() {
        let frame = Arc::new(());
        let steering = Arc::new(Steering::new(2, 1));
        let mut crew = Crew::assemble(&steering, |me| vec![me]);
        let port = PortId(0);
        for (from, to) in [(0, 1), (1, 0)] {
            let frame = Arc::clone(&frame);
            assert!(
                crew[from]
                    .hand_over(to, Handed::Leaving { frame, port })
                    .is_ok()
            );
        }
        drop(crew.pop());
        assert_eq!(Arc::strong_count(&frame), 3);
        drop(crew);
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[test]
    fn rings_take_little_memory_however_many_workers_there_are() {
        assert_eq!(frames_at_most(1), 0);
        assert_eq!(frames_at_most(2), 4096);
        assert_eq!(frames_at_most(4), 4 * 3 * 682);
        assert_eq!(frames_at_most(64), 64 * 63 * 64);
    }

    #[test]
    fn two_threads_lose_and_double_nothing() {
        let mut crew = crew(2);
        let (b, a) = (crew.pop().unwrap(), crew.pop().unwrap());
        let sender = std::thread::spawn(move || {
            let mut refused = 0u64;
            for n in 0..100_000 {
                let mut handed = leaving(n);
                while let Err(back) = a.hand_over(1, handed) {
                    refused += 1;
                    handed = back;
                    std::thread::yield_now();
                }
            }
            refused
        });
        let mut next = 0;
        while next < 100_000 {
            match b.take(0) {
                Some(handed) => {
                    assert_eq!(frame(handed), next);
                    next += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        sender.join().unwrap();
        assert!(b.take(0).is_none());
    }
}
