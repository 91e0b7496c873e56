//! Which source ports each worker may use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use lb::snat::MAX_TRIES;
use lb::{PortStripe, StripeError};
use net::L4Port;
use proptest::prelude::*;

#[test]
fn a_client_keeps_its_port_where_the_stripe_has_it() {
    let stripe = PortStripe::new(1, 4, 1024, 65535).unwrap();
    let first = |port| stripe.candidates(L4Port(port), 99).next().unwrap().0;
    assert_eq!(first(40_001), 40_001);
    assert_ne!(first(40_002), 40_002);
    // 1 belongs to this worker's residue, but not to the range.
    assert_ne!(first(1), 1);
}

#[test]
fn candidates_spread_over_the_whole_stripe() {
    let stripe = PortStripe::new(0, 2, 1024, 65535).unwrap();
    let mut ports: Vec<u16> = stripe.candidates(L4Port(1), 12_345).map(|p| p.0).collect();
    assert_eq!(ports.len(), MAX_TRIES as usize);
    ports.sort_unstable();
    let widest = ports.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    // 64 ports over 64,512 are 1,008 apart if evenly spread.
    assert!(widest < 3_000, "{widest}");
    assert!(ports[0] < 4_000 && ports[63] > 62_000);
}

#[test]
fn different_starts_begin_at_different_ports() {
    let stripe = PortStripe::new(0, 1, 1024, 65535).unwrap();
    let firsts: HashSet<_> = (0..1000)
        .map(|start| stripe.candidates(L4Port(1), start).next())
        .collect();
    assert_eq!(firsts.len(), 1000);
}

#[test]
fn every_port_of_a_small_stripe_is_tried_before_it_is_exhausted() {
    let stripe = PortStripe::new(2, 3, 5000, 5100).unwrap();
    let tried: HashSet<u16> = stripe
        .candidates(L4Port(5000), u32::MAX)
        .map(|p| p.0)
        .collect();
    let whole: HashSet<u16> = (5000..=5100).filter(|p| p % 3 == 2).collect();
    assert_eq!(tried, whole);
}

#[test]
fn stripes_that_cannot_be_are_refused() {
    for (worker, workers, first, last) in [
        (0, 4, 1024, 1026), // nothing left for one of them
        (3, 4, 5, 5),
        (0, 1, 2000, 1999),
        (1, u16::MAX, 65_000, 65_535),
        (65_500, 65_535, 65_533, 65_535),
    ] {
        let made = PortStripe::new(worker, workers, first, last);
        let owned = (first..=last).any(|p| p % workers == worker);
        assert_eq!(made.is_ok(), owned, "{worker} {workers} {first} {last}");
    }
    assert_eq!(
        PortStripe::new(4, 4, 1024, 65535),
        Err(StripeError::NoSuchWorker {
            worker: 4,
            workers: 4
        })
    );
    let none = PortStripe::new(0, 0, 1024, 65535).unwrap_err();
    assert_eq!(none.to_string(), "worker 0 of 0 does not exist");
    let few = PortStripe::new(3, 4, 1024, 1026).unwrap_err();
    assert_eq!(few.to_string(), "ports 1024-1026 are too few for 4 workers");
}

proptest! {
    #[test]
    fn every_port_has_exactly_one_owner(
        workers in 1u16..40,
        a: u16,
        b: u16,
    ) {
        let (first, last) = (a.min(b), a.max(b));
        let stripes: Vec<PortStripe> = (0..workers)
            .filter_map(|worker| PortStripe::new(worker, workers, first, last).ok())
            .collect();
        let total: u32 = stripes.iter().map(PortStripe::len).sum();
        prop_assert_eq!(total, u32::from(last - first) + 1);
        let (longest, shortest) = (
            stripes.iter().map(PortStripe::len).max().unwrap(),
            stripes.iter().map(PortStripe::len).min().unwrap(),
        );
        prop_assert!(longest - shortest <= 1);
        for port in (0..=u16::MAX).map(L4Port) {
            let owners = stripes.iter().filter(|s| s.contains(port));
            let owners: Vec<u16> = owners.map(PortStripe::worker).collect();
            let told = stripes[0].owner(port);
            if port.0 < first || port.0 > last {
                prop_assert!(owners.is_empty() && told.is_none());
            } else {
                prop_assert_eq!(owners, vec![told.unwrap()]);
            }
        }
    }

    #[test]
    fn candidates_never_leave_the_stripe_and_never_repeat(
        workers in 1u16..600,
        worker: u16,
        first: u16,
        span: u16,
        preferred: u16,
        start: u32,
    ) {
        let last = first.saturating_add(span);
        let Ok(stripe) = PortStripe::new(worker % workers, workers, first, last) else {
            return Ok(());
        };
        let candidates = stripe.candidates(L4Port(preferred), start);
        prop_assert_eq!(candidates.len(), stripe.len().min(MAX_TRIES) as usize);
        let ports: Vec<L4Port> = candidates.collect();
        prop_assert_eq!(ports.len(), stripe.len().min(MAX_TRIES) as usize);
        for port in &ports {
            prop_assert!(stripe.contains(*port));
        }
        if stripe.contains(L4Port(preferred)) {
            prop_assert_eq!(ports[0], L4Port(preferred));
        }
        let distinct: HashSet<_> = ports.iter().collect();
        prop_assert_eq!(distinct.len(), ports.len());
    }
}
