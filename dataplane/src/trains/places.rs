//! The places in which fragments wait for the first of their datagram.

use super::{Course, NONE, PLACES, Train, Trains, at, unlink};
use crate::verdict::DropReason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    pub(super) first: u16,
    pub(super) last: u16,
}

pub(super) const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

/// A place where a frame waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) train: u16,
    /// The next in its list: of its datagram, or of those that leave.
    pub(super) next: u16,
    pub(super) older: u16,
    pub(super) newer: u16,
    /// Why it is dropped, if it is.
    pub(super) reason: DropReason,
}

/// A frame that waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It goes through the pipeline again, which knows by now what to do.
    Again(u16),
    /// It is dropped.
    Dropped(u16, DropReason),
}

impl Trains {
    /// Ends the wait of a datagram's fragments.
    pub(super) fn let_go(&mut self, train: Train, course: Course) {
        let Some(entry) = self.entries.get_mut(at(train)) else {
            return;
        };
        let waiting = std::mem::replace(&mut entry.waiting, EMPTY);
        let mut index = waiting.first;
        while let Some(place) = self.places.get(at(index)).copied() {
            self.forget_age(index);
            self.leave(index, train, course);
            index = place.next;
        }
    }

    /// Puts a place at the end of those that go on or are dropped.
    pub(super) fn leave(&mut self, index: u16, train: Train, course: Course) {
        let list = if let Course::Lost(reason) = course {
            if let Some(place) = self.places.get_mut(at(index)) {
                place.reason = reason;
            }
            if let Some(entry) = self.entries.get_mut(at(train)) {
                entry.pending = entry.pending.saturating_sub(1);
            }
            &mut self.doomed
        } else {
            if let Some(entry) = self.entries.get_mut(at(train)) {
                entry.released += 1;
            }
            &mut self.released
        };
        append(&mut self.places, list, index);
    }

    /// A place for a fragment to wait in. If all are taken, the frame that has waited longest has to
    /// give way: the worker finds it in the place.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait(&mut self, train: Train) -> Result<u16, DropReason> {
        let index = self.place(train).ok_or(DropReason::FragmentsFull)?;
        let Some(entry) = self.entries.get_mut(at(train)) else {
            self.free_places.push(index);
            return Err(DropReason::FragmentsFull);
        };
        let course = entry.course;
        if course == Course::Unknown {
            append(&mut self.places, &mut entry.waiting, index);
            self.remember_age(index);
        } else {
            // Behind those of its datagram that are on their way out.
            self.leave(index, train, course);
        }
        Ok(index)
    }

    pub(super) fn place(&mut self, train: Train) -> Option<u16> {
        let new = Place {
            train,
            next: NONE,
            older: NONE,
            newer: NONE,
            reason: DropReason::FragmentsFull,
        };
        let index = if let Some(index) = self.free_places.pop() {
            index
        } else if self.places.len() < PLACES {
            let index = u16::try_from(self.places.len()).ok()?;
            self.places.push(new);
            index
        } else {
            self.displace()?
        };
        *self.places.get_mut(at(index))? = new;
        Some(index)
    }

    /// Takes the place of the frame that has waited longest, which is the first of its datagram.
    pub(super) fn displace(&mut self) -> Option<u16> {
        let index = self.place_ages.oldest;
        let place = *self.places.get(at(index))?;
        self.forget_age(index);
        let entry = self.entries.get_mut(at(place.train))?;
        entry.waiting.first = place.next;
        if place.next == NONE {
            entry.waiting = EMPTY;
        }
        entry.pending = entry.pending.saturating_sub(1);
        // It cannot be whole any more.
        self.settle(place.train, Course::Lost(DropReason::FragmentsFull));
        Some(index)
    }

    /// The next frame that waits no longer; its place is free then.
    pub fn leaving(&mut self) -> Option<Leaving> {
        let (list, dropped) = if self.doomed.first == NONE {
            (&mut self.released, false)
        } else {
            (&mut self.doomed, true)
        };
        let index = list.first;
        let place = *self.places.get(at(index))?;
        list.first = place.next;
        if place.next == NONE {
            *list = EMPTY;
        }
        self.free_places.push(index);
        Some(if dropped {
            Leaving::Dropped(index, place.reason)
        } else {
            Leaving::Again(index)
        })
    }

    /// Whether [`leaving`](Self::leaving) has something to say.
    #[inline]
    pub fn has_leaving(&self) -> bool {
        self.released.first != NONE || self.doomed.first != NONE
    }

    pub(super) fn remember_age(&mut self, index: u16) {
        let newest = self.place_ages.newest;
        if let Some(place) = self.places.get_mut(at(index)) {
            place.older = newest;
            place.newer = NONE;
        }
        match self.places.get_mut(at(newest)) {
            Some(before) => before.newer = index,
            None => self.place_ages.oldest = index,
        }
        self.place_ages.newest = index;
    }

    pub(super) fn forget_age(&mut self, index: u16) {
        let Some(place) = self.places.get(at(index)) else {
            return;
        };
        let ages = (place.older, place.newer);
        let places = &mut self.places;
        unlink(&mut self.place_ages, ages, |index, newer, to| {
            if let Some(place) = places.get_mut(at(index)) {
                *(if newer {
                    &mut place.newer
                } else {
                    &mut place.older
                }) = to;
            }
        });
    }
}

fn append(places: &mut [Place], list: &mut List, index: u16) {
    if let Some(place) = places.get_mut(at(index)) {
        place.next = NONE;
    }
    match places.get_mut(at(list.last)) {
        Some(last) => last.next = index,
        None => list.first = index,
    }
    list.last = index;
}
