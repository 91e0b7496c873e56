//! Timers: a hashed timing wheel whose entries are the slots of the table.
//!
//! A slot waits in the bucket of the tick at which it may be due. Nothing is moved when a packet
//! postpones a deadline; when the bucket comes round the owner looks at the deadline and arms the
//! slot anew. A deadline beyond one turn waits at the far end and is armed anew there. So a bucket
//! is a hint: a slot may be handed out before it is due, and the owner decides by the deadline.

use net::Timestamp;

/// One tick is 2^27 ns, about 134 ms.
const TICK_SHIFT: u32 = 27;
/// One turn is 4096 ticks, about 9 minutes: longer than the usual timeouts.
const BUCKETS: usize = 1 << 12;
const TURN: u64 = BUCKETS as u64;

/// No slot, no bucket.
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    prev: u32,
    next: u32,
    /// The bucket the slot waits in, or `NIL`.
    bucket: u32,
}

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32]>,
    links: Box<[Link]>,
    /// The next tick to be worked off; all before it are.
    cursor: u64,
    /// Slots that wait.
    armed: u32,
}

const fn bucket(tick: u64) -> u32 {
    (tick % TURN) as u32
}

impl Wheel {
    pub(crate) fn new(slots: u32) -> Self {
        let idle = Link {
            prev: NIL,
            next: NIL,
            bucket: NIL,
        };
        Self {
            heads: vec![NIL; BUCKETS].into_boxed_slice(),
            links: vec![idle; slots as usize].into_boxed_slice(),
            cursor: 0,
            armed: 0,
        }
    }

    /// Follows a clock that went back (or that begins): ticks count from `now` again. What waits
    /// comes round within a turn at the latest, and is looked at then.
    pub(crate) fn follow(&mut self, now: Timestamp) {
        let tick = now.as_nanos() >> TICK_SHIFT;
        if tick + 1 < self.cursor || self.armed == 0 {
            self.cursor = tick;
        }
    }

    /// Lets `slot` wait until `deadline`, wherever it waited before.
    pub(crate) fn arm(&mut self, slot: u32, deadline: Timestamp) {
        self.disarm(slot);
        let bucket = bucket(self.tick(deadline));
        let head = &mut self.heads[bucket as usize];
        self.links[slot as usize] = Link {
            prev: NIL,
            next: *head,
            bucket,
        };
        if *head != NIL {
            self.links[*head as usize].prev = slot;
        }
        *head = slot;
        self.armed += 1;
    }

    /// As [`arm`](Self::arm), but only if `slot` would otherwise come up too late.
    pub(crate) fn advance(&mut self, slot: u32, deadline: Timestamp) {
        let ahead = |b: u32| (u64::from(b) + TURN - self.cursor % TURN) % TURN;
        let armed = self.links[slot as usize].bucket;
        if armed == NIL || ahead(bucket(self.tick(deadline))) < ahead(armed) {
            self.arm(slot, deadline);
        }
    }

    /// The tick at which `deadline` is over, as far as one turn reaches.
    fn tick(&self, deadline: Timestamp) -> u64 {
        deadline
            .as_nanos()
            .div_ceil(1 << TICK_SHIFT)
            .clamp(self.cursor, self.cursor + TURN - 1)
    }

    /// Takes `slot` out, if it waits.
    pub(crate) fn disarm(&mut self, slot: u32) {
        let Link { prev, next, bucket } = self.links[slot as usize];
        if bucket == NIL {
            return;
        }
        match prev {
            NIL => self.heads[bucket as usize] = next,
            prev => self.links[prev as usize].next = next,
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[slot as usize].bucket = NIL;
        self.armed -= 1;
    }

    /// Takes out a slot whose tick has come by `now`. After `None` every tick up to `now` is
    /// worked off. Empty buckets passed on the way are one turn at most.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<u32> {
        let tick = now.as_nanos() >> TICK_SHIFT;
        // One turn visits every bucket: what lies further back need not be counted through.
        self.cursor = self.cursor.max((tick + 1).saturating_sub(TURN));
        while self.cursor <= tick {
            let slot = self.heads[bucket(self.cursor) as usize];
            if slot != NIL {
                self.disarm(slot);
                return Some(slot);
            }
            self.cursor += 1;
        }
        None
    }
}
