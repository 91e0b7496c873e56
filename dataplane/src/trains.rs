//! Datagrams whose fragments are on their way through a worker.
//!
//! Nothing is put together here. Of each datagram it is known which parts have come, so that overlaps
//! and duplicates are seen, and what became of its first fragment, which the others follow. Those that
//! come before the first wait: the frames are with the worker, in numbered places that are dealt out here.
//!
//! All is bounded, and taken at the start or as it is needed for the first time: [`CAPACITY`] datagrams,
//! [`PIECES`] fragments of each, [`PLACES`] fragments that wait. What is new displaces what is oldest, so
//! whoever floods it shortens the time that others have, and can do no more.

mod places;

pub use places::Leaving;

use std::time::Duration;

use conntrack::{Direction, FlowId};
use net::fragment::Piece;
use net::{Addr, Timestamp, VlanIndex};

use crate::verdict::DropReason;
use places::{EMPTY, List, Place};

/// Datagrams under way at once.
pub const CAPACITY: usize = 4096;
/// Fragments of one datagram: twice as many as the longest has at the least MTU of IPv6.
const PIECES: usize = 112;
/// Fragments that wait for the first of their datagram.
pub const PLACES: usize = 512;
/// How long a datagram is under way, from its first fragment to come: the time that RFC 791 section 3.2
/// recommends for reassembly. Fragments are milliseconds apart, and we need only outlast reordering; and 16
/// bits of identification come again after seconds (RFC 4963), so longer does harm.
pub const PATIENCE: Duration = Duration::from_secs(15);

const NONE: u16 = u16::MAX;
const BUCKETS: usize = CAPACITY;

/// What names a datagram (RFC 791 section 3.2, RFC 8200 section 4.5), and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Identification.
    pub ident: u32,
    /// Protocol; 0 for IPv6.
    pub proto: u8,
    /// The VLAN it comes by.
    pub vlan: VlanIndex,
}

/// What became of a datagram's first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It has not come yet.
    Unknown,
    /// It was forwarded: the others follow.
    Flow {
        /// By this flow.
        id: FlowId,
        /// In this direction of it.
        direction: Direction,
        /// With this identification, if the datagram has got a new one.
        ident: Option<u32>,
        /// For TCP: the sequence number that the datagram's first octet would have.
        origin: Option<u32>,
    },
    /// It was an echo request to us, and was answered.
    Echo,
    /// It went to another worker.
    Elsewhere(u16),
    /// It went nowhere, or the datagram is condemned: the others are dropped for this.
    Lost(DropReason),
}

/// A datagram of the table; names it until the table is changed.
pub type Train = u16;

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    course: Course,
    since: Timestamp,
    bucket: u16,
    /// The next in its bucket.
    next: u16,
    older: u16,
    newer: u16,
    /// The first and last place that its waiting fragments have.
    waiting: List,
    /// Fragments that have come and were not dealt with yet.
    pending: u16,
    /// Of these, those that are taken up again already.
    released: u16,
    /// Fragments that went to another worker and may come back.
    away: u16,
    /// The datagram's length, once its end is known; else 0.
    total: u16,
    /// Octets that have come.
    covered: u16,
    count: u16,
    /// Its parts, in order of place: first octet, and behind the last.
    pieces: [(u16, u16); PIECES],
}

/// The table.
#[derive(Debug)]
pub struct Trains {
    entries: Vec<Entry>,
    free: Vec<u16>,
    buckets: Box<[u16]>,
    /// All by age.
    ages: Ages,
    places: Vec<Place>,
    free_places: Vec<u16>,
    /// Places of frames that wait, by age.
    place_ages: Ages,
    /// Places of frames that go on, in order.
    released: List,
    /// Places of frames that are dropped.
    doomed: List,
}

/// A list from the oldest to the newest; the links are in its members.
#[derive(Debug, Clone, Copy)]
struct Ages {
    oldest: u16,
    newest: u16,
}

impl Default for Trains {
    fn default() -> Self {
        let none = Ages {
            oldest: NONE,
            newest: NONE,
        };
        Self {
            entries: Vec::with_capacity(CAPACITY),
            free: Vec::with_capacity(CAPACITY),
            buckets: vec![NONE; BUCKETS].into_boxed_slice(),
            ages: none,
            places: Vec::with_capacity(PLACES),
            free_places: Vec::with_capacity(PLACES),
            place_ages: none,
            released: EMPTY,
            doomed: EMPTY,
        }
    }
}

/// Octets that one worker's table takes at most.
pub const OCTETS: usize =
    CAPACITY * (size_of::<Entry>() + 2 * size_of::<u16>()) + PLACES * (size_of::<Place>() + 2);

fn at(index: u16) -> usize {
    usize::from(index)
}

#[expect(clippy::cast_possible_truncation, reason = "a part of the hash")]
fn bucket_of(hash: u64) -> u16 {
    (hash as usize % BUCKETS) as u16
}

/// Takes something out of a list by age and tells its neighbours, which `links` finds.
fn unlink(ages: &mut Ages, (older, newer): (u16, u16), mut link: impl FnMut(u16, bool, u16)) {
    if older == NONE {
        ages.oldest = newer;
    } else {
        link(older, true, newer);
    }
    if newer == NONE {
        ages.newest = older;
    } else {
        link(newer, false, older);
    }
}

impl Trains {
    /// Whether nothing is under way.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ages.oldest == NONE
    }

    /// Datagrams under way.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// When the oldest is given up.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let oldest = self.entries.get(at(self.ages.oldest))?;
        Some(oldest.since + PATIENCE)
    }

    /// The datagram of this name, if it is under way. `hash` is that of the name.
    pub fn find(&self, key: &Key, hash: u64) -> Option<Train> {
        let mut index = *self.buckets.get(at(bucket_of(hash)))?;
        while let Some(entry) = self.entries.get(at(index)) {
            if entry.key == *key {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }

    /// What became of the first fragment, and whether earlier ones are still on their way out, which
    /// later ones must not overtake.
    pub fn course(&self, train: Train) -> (Course, bool) {
        let entry = self.entries.get(at(train));
        entry.map_or((Course::Unknown, false), |entry| {
            (entry.course, entry.released > 0)
        })
    }

    /// Enters a fragment that has come.
    ///
    /// # Errors
    /// Why it is dropped: it has come before, or overlaps with others, which condemns the whole
    /// datagram (RFC 5722 section 4); or there are too many.
    pub fn arrive(
        &mut self,
        key: &Key,
        hash: u64,
        piece: &Piece,
        now: Timestamp,
    ) -> Result<Train, DropReason> {
        let found = self.find(key, hash);
        let found = found.filter(|train| !self.is_over(*train));
        let train = match found {
            Some(train) => train,
            None => self
                .enter(key, hash, now)
                .ok_or(DropReason::FragmentsFull)?,
        };
        let entry = self
            .entries
            .get_mut(at(train))
            .ok_or(DropReason::FragmentsFull)?;
        if let Course::Lost(reason) = entry.course {
            return Err(reason);
        }
        match entry.add(piece) {
            Ok(()) => {
                entry.pending += 1;
                Ok(train)
            }
            Err(DropReason::FragmentDuplicate) => Err(DropReason::FragmentDuplicate),
            Err(reason) => {
                self.settle(train, Course::Lost(reason));
                Err(reason)
            }
        }
    }

    /// Whether all of it has come and gone, though it was kept: its name may stand for another one.
    fn is_over(&mut self, train: Train) -> bool {
        let over = self.entries.get(at(train)).is_some_and(|entry| {
            let condemned = entry.course == Course::Lost(DropReason::FragmentOverlap);
            entry.is_complete() && entry.pending == 0 && !condemned
        });
        if over {
            self.remove(train);
        }
        over
    }

    /// A fragment goes to another worker, once [`depart`](Self::depart) is told too.
    pub fn send_away(&mut self, train: Train) {
        if let Some(entry) = self.entries.get_mut(at(train)) {
            entry.away = entry.away.saturating_add(1);
        }
    }

    /// A fragment is back from another worker, which did not have the flow: it is to be dealt with.
    pub fn come_back(&mut self, train: Train) {
        if let Some(entry) = self.entries.get_mut(at(train)) {
            entry.away = entry.away.saturating_sub(1);
            entry.pending += 1;
        }
    }

    /// A fragment has been dealt with, other than by waiting. The datagram is forgotten with its last
    /// one, unless the frames may come back from another worker.
    pub fn depart(&mut self, train: Train, again: bool) {
        let Some(entry) = self.entries.get_mut(at(train)) else {
            return;
        };
        entry.pending = entry.pending.saturating_sub(1);
        if again {
            entry.released = entry.released.saturating_sub(1);
        }
        let done = entry.is_complete() && entry.pending == 0 && entry.away == 0;
        if done && matches!(entry.course, Course::Flow { .. } | Course::Echo) {
            self.remove(train);
        }
    }

    /// Says what became of the first fragment, or that the datagram is lost: those that wait follow, or
    /// are dropped.
    pub fn settle(&mut self, train: Train, course: Course) {
        let Some(entry) = self.entries.get_mut(at(train)) else {
            return;
        };
        entry.course = course;
        self.let_go(train, course);
    }

    /// Gives up the datagrams whose time is over, at most `budget` of them; how many.
    pub fn expire(&mut self, now: Timestamp, budget: usize) -> usize {
        let mut ended = 0;
        while ended < budget && self.next_expiry().is_some_and(|at| at <= now) {
            let train = self.ages.oldest;
            self.let_go(train, Course::Lost(DropReason::FragmentTimeout));
            self.remove(train);
            ended += 1;
        }
        ended
    }

    fn enter(&mut self, key: &Key, hash: u64, now: Timestamp) -> Option<Train> {
        if self.free.is_empty() && self.entries.len() >= CAPACITY {
            let oldest = self.ages.oldest;
            self.let_go(oldest, Course::Lost(DropReason::FragmentsFull));
            self.remove(oldest);
        }
        let bucket = bucket_of(hash);
        let head = self.buckets.get_mut(at(bucket))?;
        let entry = Entry {
            key: *key,
            course: Course::Unknown,
            since: now,
            bucket,
            next: *head,
            older: self.ages.newest,
            newer: NONE,
            waiting: EMPTY,
            pending: 0,
            released: 0,
            away: 0,
            total: 0,
            covered: 0,
            count: 0,
            pieces: [(0, 0); PIECES],
        };
        let train = if let Some(train) = self.free.pop() {
            *self.entries.get_mut(at(train))? = entry;
            train
        } else {
            self.entries.push(entry);
            u16::try_from(self.entries.len() - 1).ok()?
        };
        *head = train;
        match self.entries.get_mut(at(self.ages.newest)) {
            Some(before) => before.newer = train,
            None => self.ages.oldest = train,
        }
        self.ages.newest = train;
        Some(train)
    }

    /// Forgets a datagram of which nothing waits.
    fn remove(&mut self, train: Train) {
        let Some(entry) = self.entries.get(at(train)) else {
            return;
        };
        let (bucket, next, ages) = (entry.bucket, entry.next, (entry.older, entry.newer));
        let entries = &mut self.entries;
        unlink(&mut self.ages, ages, |index, newer, to| {
            if let Some(entry) = entries.get_mut(at(index)) {
                *(if newer {
                    &mut entry.newer
                } else {
                    &mut entry.older
                }) = to;
            }
        });
        if let Some(head) = self.buckets.get_mut(at(bucket)) {
            if *head == train {
                *head = next;
            } else {
                let mut index = *head;
                while let Some(entry) = self.entries.get_mut(at(index)) {
                    if entry.next == train {
                        entry.next = next;
                        break;
                    }
                    index = entry.next;
                }
            }
        }
        self.free.push(train);
    }
}

impl Entry {
    const fn is_complete(&self) -> bool {
        self.total != 0 && self.covered == self.total
    }

    /// Takes note of a part.
    fn add(&mut self, piece: &Piece) -> Result<(), DropReason> {
        let count = at(self.count).min(PIECES);
        let known = self.pieces.get(..count).unwrap_or(&[]);
        let place = known.partition_point(|(start, _)| *start < piece.start);
        let behind = known.get(place).copied();
        let same = (piece.start, piece.end);
        // An end that is not where it was said to be is a lie, too.
        let ends = self.total == piece.end;
        if behind == Some(same) && piece.more != ends {
            return Err(DropReason::FragmentDuplicate);
        }
        let before = place.checked_sub(1).and_then(|at| known.get(at));
        let overlaps = before.is_some_and(|(_, end)| *end > piece.start)
            || behind.is_some_and(|(start, _)| start < piece.end);
        let reaches = known.last().map_or(0, |(_, end)| *end);
        let contradicts = if piece.more {
            self.total != 0 && piece.end >= self.total
        } else {
            self.total != 0 || reaches > piece.end
        };
        if overlaps || contradicts {
            return Err(DropReason::FragmentOverlap);
        }
        if count == PIECES {
            return Err(DropReason::FragmentsFull);
        }
        self.pieces.copy_within(place..count, place + 1);
        if let Some(free) = self.pieces.get_mut(place) {
            *free = same;
        }
        self.count += 1;
        self.covered += piece.end - piece.start;
        if !piece.more {
            self.total = piece.end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
