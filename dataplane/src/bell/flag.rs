//! The flag of a bell.

use super::shared::{AtomicBool, Ordering, fence};

/// Whether one thread sleeps and wants to be woken.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

impl Bell {
    /// Of a thread that is awake.
    pub fn new() -> Self {
        Self {
            asleep: AtomicBool::new(false),
        }
    }

    /// The sleeper is about to wait. It must look for work after this, and not wait if there is some.
    pub fn lie_down(&self) {
        // A swap, as everybody's: a flag that one stores and others swap has no order that all agree on
        // until they meet.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake. Returns whether somebody has rung, or is about to.
    pub fn rise(&self) -> bool {
        !self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Whether the sleeper must be woken for the work that was put there before: true for one of
    /// those who ask.
    #[inline]
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }
}
