//! Several ports of a VLAN in one segment: which of them speaks to whom.
//!
//! Two virtual functions of one card are two stations of the same segment, each with its own MAC address.
//! A question that everybody hears comes in at both, and its asker must get one answer, always the
//! same one. So the pair of addresses, asker and target, names the port: neighbours are spread over the
//! ports, and so are the addresses that one router asks for.

use foldhash::fast::FixedState;
use net::Addr;
use std::hash::BuildHasher;

/// Names one of several ports for what `asker` and `target` have to say to each other; see [`choose`].
pub fn spread(asker: &Addr, target: &Addr) -> u64 {
    FixedState::default().hash_one((asker, target))
}

/// Which of `count` ports in one segment a [`spread`] means; `None` if there is none.
pub fn choose(spread: u64, count: usize) -> Option<usize> {
    // The upper half: the lower bits are those that tables use.
    let at = (spread >> 32).checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(at).ok()
}
