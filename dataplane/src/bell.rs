//! How a sleeper is woken by whoever has put work where it will look for it, and not by anybody
//! who has not.
//!
//! ```text
//!   sleeper                               waker
//!   lie_down: asleep = true               puts the work there
//!   ── fence ──                           ── fence ──
//!   looks for work once more              asleep? then rings, once
//!   waits
//! ```
//!
//! One of the two sees what the other did, whatever the order: the sleeper finds the work, or the waker
//! finds it asleep. As long as nobody sleeps the flag is only read, so its cache line stays with
//! everybody. The flag says *whether* to ring; what rings is the caller's (an eventfd in `tmm run`).

/// What a bell is made of. Its own test puts a model checker's here.
mod shared {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

mod flag;

pub use flag::Bell;
