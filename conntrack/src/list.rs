//! Queues threaded through the slots of the table: a slot is on one list at most, so one pair of
//! links per slot serves all of them.

/// No slot.
const NIL: u32 = u32::MAX;

/// The ends of one list. Which list a slot is on is the caller's to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    /// Slots on the list.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The slot longest on the list.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The links of all slots.
#[derive(Debug)]
pub(crate) struct Links(Box<[Link]>);

impl Links {
    pub(crate) fn new(slots: u32) -> Self {
        let unlinked = Link {
            prev: NIL,
            next: NIL,
        };
        Self(vec![unlinked; slots as usize].into_boxed_slice())
    }

    /// Puts `slot`, which is on no list, at the end of `list`.
    pub(crate) fn push_back(&mut self, list: &mut List, slot: u32) {
        self.0[slot as usize] = Link {
            prev: list.tail,
            next: NIL,
        };
        match list.tail {
            NIL => list.head = slot,
            tail => self.0[tail as usize].next = slot,
        }
        list.tail = slot;
        list.len += 1;
    }

    /// Takes `slot` off `list`, which it must be on.
    pub(crate) fn unlink(&mut self, list: &mut List, slot: u32) {
        let Link { prev, next } = self.0[slot as usize];
        match prev {
            NIL => list.head = next,
            prev => self.0[prev as usize].next = next,
        }
        match next {
            NIL => list.tail = prev,
            next => self.0[next as usize].prev = prev,
        }
        list.len -= 1;
    }

    /// Takes the slot longest on `list` off it.
    pub(crate) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let slot = list.front()?;
        self.unlink(list, slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_from_the_front_or_the_middle_in_order() {
        let mut links = Links::new(5);
        let (mut a, mut b) = (List::EMPTY, List::EMPTY);
        for slot in 0..4 {
            links.push_back(&mut a, slot);
        }
        links.unlink(&mut a, 2);
        links.push_back(&mut b, 2);
        links.push_back(&mut b, 4);
        assert_eq!((a.len(), b.len()), (3, 2));
        let drain = |links: &mut Links, list: &mut List| {
            std::iter::from_fn(|| links.pop_front(list)).collect::<Vec<_>>()
        };
        assert_eq!(drain(&mut links, &mut a), [0, 1, 3]);
        assert_eq!(drain(&mut links, &mut b), [2, 4]);
        assert_eq!((a.len(), b.len()), (0, 0));
        links.push_back(&mut a, 1);
        links.unlink(&mut a, 1);
        assert_eq!(links.pop_front(&mut a), None);
    }
}
