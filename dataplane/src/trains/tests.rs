#![allow(clippy::unwrap_used, clippy::expect_used)]

use net::VlanIndex;
use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::from_secs(1);

fn key(ident: u32) -> Key {
    Key {
        src: Addr::from_v4([192, 0, 2, 7]),
        dst: Addr::from_v4([203, 0, 113, 10]),
        ident,
        proto: 17,
        vlan: VlanIndex(0),
    }
}

fn piece(start: u16, end: u16, more: bool) -> Piece {
    Piece {
        ident: 0,
        start,
        end,
        more,
        proto: 17,
        header: 0,
    }
}

fn arrive(trains: &mut Trains, ident: u32, piece: &Piece) -> Result<Train, DropReason> {
    trains.arrive(&key(ident), hash(ident), piece, START)
}

/// Poor on purpose: buckets have several members.
fn hash(ident: u32) -> u64 {
    u64::from(ident % 7)
}

fn all_leaving(trains: &mut Trains) -> Vec<Leaving> {
    std::iter::from_fn(|| trains.leaving()).collect()
}

#[test]
fn a_datagram_is_forgotten_with_its_last_fragment() {
    let mut trains = Trains::default();
    for (start, end, more) in [(0, 1480, true), (2960, 3000, false), (1480, 2960, true)] {
        let train = arrive(&mut trains, 1, &piece(start, end, more)).unwrap();
        assert_eq!(trains.len(), 1);
        trains.settle(train, Course::Echo);
        trains.depart(train, false);
    }
    assert!(trains.is_empty());
    assert_eq!(trains.find(&key(1), hash(1)), None);
}

#[test]
fn a_datagram_that_comes_back_from_another_worker_is_known_until_its_last_fragment_has() {
    let mut trains = Trains::default();
    let pieces = [(0, 1480, true), (1480, 2960, true), (2960, 3000, false)];
    for (start, end, more) in pieces {
        let train = arrive(&mut trains, 1, &piece(start, end, more)).unwrap();
        trains.settle(train, Course::Elsewhere(3));
        trains.send_away(train);
        trains.depart(train, false);
    }
    for back in 1..=3 {
        let train = trains.find(&key(1), hash(1)).expect("the train");
        trains.come_back(train);
        trains.settle(train, Course::Echo);
        trains.depart(train, false);
        assert_eq!(trains.is_empty(), back == 3, "after {back}");
    }
}

#[test]
fn overlaps_and_lies_condemn_a_datagram_and_exact_duplicates_do_not() {
    use DropReason::{FragmentDuplicate, FragmentOverlap};
    let known = [(0, 800, true), (1600, 2400, true)];
    let all = |more: &[(u16, u16, bool)], last: (u16, u16, bool)| {
        let mut trains = Trains::default();
        for (start, end, more) in known.iter().chain(more) {
            arrive(&mut trains, 1, &piece(*start, *end, *more)).unwrap();
        }
        let (start, end, more) = last;
        let result = arrive(&mut trains, 1, &piece(start, end, more)).map(|_| ());
        if result == Err(FragmentOverlap) {
            // From now on all that comes is dropped, fitting or not.
            let fitting = arrive(&mut trains, 1, &piece(5000, 5800, true));
            assert_eq!(fitting, Err(FragmentOverlap));
        }
        result
    };
    for (more, last, result) in [
        (&[][..], (800, 1600, true), Ok(())),
        (&[], (0, 800, true), Err(FragmentDuplicate)),
        (&[], (1600, 2400, true), Err(FragmentDuplicate)),
        (&[], (0, 808, true), Err(FragmentOverlap)),
        (&[], (0, 792, true), Err(FragmentOverlap)),
        (&[], (792, 1600, true), Err(FragmentOverlap)),
        (&[], (800, 1608, true), Err(FragmentOverlap)),
        (&[], (800, 1601, false), Err(FragmentOverlap)),
        (&[], (8, 16, true), Err(FragmentOverlap)),
        (&[], (2392, 2393, false), Err(FragmentOverlap)),
        // It ends before what has come of it, or elsewhere than it did.
        (&[], (800, 801, false), Err(FragmentOverlap)),
        (
            &[(2400, 2401, false)],
            (2400, 2401, false),
            Err(FragmentDuplicate),
        ),
        (
            &[(2400, 2401, false)],
            (2400, 2408, true),
            Err(FragmentOverlap),
        ),
        (
            &[(2400, 2401, false)],
            (2408, 2416, false),
            Err(FragmentOverlap),
        ),
        (
            &[(2400, 2401, false)],
            (2408, 2416, true),
            Err(FragmentOverlap),
        ),
        (
            &[(2400, 2408, true)],
            (2400, 2408, false),
            Err(FragmentOverlap),
        ),
    ] {
        assert_eq!(all(more, last), result, "{more:?} {last:?}");
    }
}

#[test]
fn those_that_wait_go_on_in_order_once_the_first_is_there() {
    let mut trains = Trains::default();
    let mut places = Vec::new();
    for at in [2u16, 4, 1, 3] {
        let train = arrive(&mut trains, 1, &piece(at * 8, at * 8 + 8, true)).unwrap();
        places.push(trains.wait(train).unwrap());
    }
    assert_eq!(trains.leaving(), None);
    let train = arrive(&mut trains, 1, &piece(0, 8, true)).unwrap();
    trains.settle(train, Course::Echo);
    trains.depart(train, false);
    // One that comes now must not overtake them.
    assert_eq!(trains.course(train), (Course::Echo, true));
    let late = arrive(&mut trains, 1, &piece(40, 48, false)).unwrap();
    places.push(trains.wait(late).unwrap());
    let expected: Vec<Leaving> = places.iter().map(|place| Leaving::Again(*place)).collect();
    assert_eq!(all_leaving(&mut trains), expected);
    for _ in 0..5 {
        trains.depart(train, true);
    }
    assert!(trains.is_empty());
}

#[test]
fn those_that_wait_in_vain_are_dropped_with_their_datagram() {
    let mut trains = Trains::default();
    let train = arrive(&mut trains, 1, &piece(8, 16, true)).unwrap();
    let place = trains.wait(train).unwrap();
    assert_eq!(trains.next_expiry(), Some(START + PATIENCE));
    assert_eq!(trains.expire(START + PATIENCE / 2, 16), 0);
    assert_eq!(trains.expire(START + PATIENCE, 16), 1);
    let dropped = Leaving::Dropped(place, DropReason::FragmentTimeout);
    assert_eq!(all_leaving(&mut trains), [dropped]);
    assert!(trains.is_empty());
}

#[test]
fn one_who_waits_gives_way_when_all_places_are_taken_and_its_datagram_is_lost() {
    let mut trains = Trains::default();
    for ident in 0..u32::try_from(PLACES).unwrap() {
        let train = arrive(&mut trains, ident, &piece(8, 16, true)).unwrap();
        assert_eq!(usize::from(trains.wait(train).unwrap()), ident as usize);
    }
    let train = arrive(&mut trains, 100_000, &piece(8, 16, true)).unwrap();
    assert_eq!(trains.wait(train), Ok(0), "the place of the oldest");
    assert_eq!(trains.leaving(), None, "the worker finds the frame there");
    let first = arrive(&mut trains, 0, &piece(0, 8, true));
    assert_eq!(first, Err(DropReason::FragmentsFull));
}

#[test]
fn the_oldest_datagram_gives_way_when_there_are_too_many() {
    let mut trains = Trains::default();
    let capacity = u32::try_from(CAPACITY).unwrap();
    let train = arrive(&mut trains, 0, &piece(8, 16, true)).unwrap();
    let place = trains.wait(train).unwrap();
    for ident in 1..=capacity {
        arrive(&mut trains, ident, &piece(0, 8, true)).unwrap();
        assert!(trains.len() <= CAPACITY);
    }
    let dropped = Leaving::Dropped(place, DropReason::FragmentsFull);
    assert_eq!(all_leaving(&mut trains), [dropped]);
    assert_eq!(trains.find(&key(0), hash(0)), None);
    assert!(trains.find(&key(1), hash(1)).is_some());
}

#[test]
fn a_worker_needs_no_more_memory_than_the_documentation_says() {
    let mib = 1024.0 * 1024.0;
    let octets = f64::from(u32::try_from(OCTETS).unwrap());
    assert!(octets < 2.4 * mib, "{} MiB", octets / mib);
}

#[test]
fn a_datagram_has_so_many_fragments_and_no_more() {
    let mut trains = Trains::default();
    for at in 0..u16::try_from(PIECES).unwrap() {
        arrive(&mut trains, 1, &piece(at * 8, at * 8 + 8, true)).unwrap();
    }
    let one_more = arrive(&mut trains, 1, &piece(60_000, 60_008, true));
    assert_eq!(one_more, Err(DropReason::FragmentsFull));
}

/// What a table without any cleverness would say of parts that come.
#[derive(Default)]
struct Model {
    parts: Vec<(u16, u16, bool)>,
    lost: bool,
}

impl Model {
    fn add(&mut self, (start, end, more): (u16, u16, bool)) -> bool {
        if self.lost {
            return false;
        }
        if self.parts.contains(&(start, end, more)) {
            return false;
        }
        let apart = |(s, e, _): &(u16, u16, bool)| *e <= start || end <= *s;
        let ends = self.parts.iter().find(|(_, _, more)| !more).map(|p| p.1);
        let fits = match (more, ends) {
            (true, Some(total)) => end < total,
            (false, Some(_)) => false,
            (false, None) => self.parts.iter().all(|(_, e, _)| *e <= end),
            (true, None) => true,
        };
        if fits && self.parts.iter().all(apart) {
            self.parts.push((start, end, more));
            return true;
        }
        self.lost = true;
        false
    }
}

proptest! {
    #[test]
    fn it_takes_what_a_list_of_all_parts_would_take(steps in prop::collection::vec((0u32..3, 0u16..20, 1u16..5, any::<bool>(), any::<bool>()), 0..60)) {
        let mut trains = Trains::default();
        let mut models: [Model; 3] = Default::default();
        for (ident, start, len, more, odd) in steps {
            let end = (start + len) * 8 - u16::from(odd && !more);
            let taken = arrive(&mut trains, ident, &piece(start * 8, end, more)).is_ok();
            prop_assert_eq!(taken, models[ident as usize].add((start * 8, end, more)));
        }
    }

    /// Whatever happens, lists and counts agree: all that is put in comes out, each place once.
    #[test]
    fn no_place_is_lost_or_given_twice(steps in prop::collection::vec((0u8..6, 0u32..40, 0u16..30), 0..400)) {
        let mut trains = Trains::default();
        let mut now = START;
        let mut held = std::collections::HashSet::new();
        for (what, ident, at) in steps {
            match what {
                0..=2 => {
                    let piece = piece((at + 1) * 8, (at + 2) * 8, true);
                    if let Ok(train) = trains.arrive(&key(ident), hash(ident), &piece, now) {
                        match trains.course(train).0 {
                            Course::Unknown => { held.insert(trains.wait(train).unwrap()); }
                            _ => trains.depart(train, false),
                        }
                    }
                }
                3 => {
                    let piece = piece(0, 8, true);
                    if let Ok(train) = trains.arrive(&key(ident), hash(ident), &piece, now) {
                        let lost = at % 3 == 0;
                        let course = if lost { Course::Lost(DropReason::Fragment) } else { Course::Echo };
                        trains.settle(train, course);
                        trains.depart(train, false);
                    }
                }
                4 => {
                    for leaving in all_leaving(&mut trains) {
                        let (Leaving::Again(place) | Leaving::Dropped(place, _)) = leaving;
                        prop_assert!(held.remove(&place), "{} left twice", place);
                    }
                }
                _ => {
                    now = now + Duration::from_secs(u64::from(at));
                    trains.expire(now, 3);
                }
            }
        }
        trains.expire(now + PATIENCE * 2, usize::MAX);
        for leaving in all_leaving(&mut trains) {
            let (Leaving::Again(place) | Leaving::Dropped(place, _)) = leaving;
            prop_assert!(held.remove(&place));
        }
        prop_assert!(held.is_empty(), "{:?} are left", held);
        prop_assert!(trains.is_empty());
        prop_assert_eq!(trains.len(), 0);
    }
}
