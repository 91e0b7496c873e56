//! On which VLANs a virtual server listens.

use net::VlanIndex;

/// A set of VLANs: a bitmap that is as long as its highest index needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct VlanSet {
    /// The last word is never zero, so that equal sets are equal values.
    words: Vec<u64>,
}

impl VlanSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Adds a VLAN; false if it was in the set already.
    pub fn insert(&mut self, vlan: VlanIndex) -> bool {
        let (word, bit) = place(vlan);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let Some(slot) = self.words.get_mut(word) else {
            return false;
        };
        let new = *slot & bit == 0;
        *slot |= bit;
        new
    }

    /// Whether `vlan` is in the set.
    #[inline]
    pub fn contains(&self, vlan: VlanIndex) -> bool {
        let (word, bit) = place(vlan);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Whether no VLAN is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many VLANs are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The VLANs of the set, lowest index first.
    pub fn iter(&self) -> impl Iterator<Item = VlanIndex> + '_ {
        (0..=u16::MAX)
            .take(self.words.len() * 64)
            .map(VlanIndex)
            .filter(|vlan| self.contains(*vlan))
    }
}

#[inline]
fn place(vlan: VlanIndex) -> (usize, u64) {
    (usize::from(vlan.0 / 64), 1 << (vlan.0 % 64))
}

impl FromIterator<VlanIndex> for VlanSet {
    fn from_iter<T: IntoIterator<Item = VlanIndex>>(vlans: T) -> Self {
        let mut set = Self::new();
        for vlan in vlans {
            set.insert(vlan);
        }
        set
    }
}

/// The VLANs a virtual server takes packets from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Listen {
    /// Every VLAN.
    #[default]
    All,
    /// These VLANs.
    Only(VlanSet),
    /// Every VLAN but these.
    Except(VlanSet),
}

impl Listen {
    /// Whether packets that come in by `vlan` are listened to.
    #[inline]
    pub fn hears(&self, vlan: VlanIndex) -> bool {
        match self {
            Self::All => true,
            Self::Only(set) => set.contains(vlan),
            Self::Except(set) => !set.contains(vlan),
        }
    }

    /// How general the scope is: of two virtual servers that a packet fits equally well, the one
    /// with the narrower scope takes it.
    pub(crate) const fn breadth(&self) -> u8 {
        match self {
            Self::Only(_) => 0,
            Self::Except(_) => 1,
            Self::All => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn scopes_hear_what_they_name() {
        let two = VlanSet::from_iter([VlanIndex(1), VlanIndex(70)]);
        for (listen, heard) in [
            (Listen::All, [true; 4]),
            (Listen::Only(two.clone()), [false, true, true, false]),
            (Listen::Except(two), [true, false, false, true]),
            (Listen::Only(VlanSet::new()), [false; 4]),
            (Listen::Except(VlanSet::new()), [true; 4]),
        ] {
            let got = [0, 1, 70, u16::MAX].map(|v| listen.hears(VlanIndex(v)));
            assert_eq!(got, heard, "{listen:?}");
        }
    }

    proptest! {
        #[test]
        fn the_bitmap_is_a_set(vlans in proptest::collection::vec(any::<u16>(), 0..40), probe: u16) {
            let model: BTreeSet<u16> = vlans.iter().copied().collect();
            let mut set = VlanSet::new();
            let mut seen = BTreeSet::new();
            for v in vlans {
                prop_assert_eq!(set.insert(VlanIndex(v)), seen.insert(v));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert_eq!(set.contains(VlanIndex(probe)), model.contains(&probe));
            prop_assert!(set.iter().map(|v| v.0).eq(model.iter().copied()));
            let reversed: VlanSet = model.iter().rev().map(|v| VlanIndex(*v)).collect();
            prop_assert_eq!(set, reversed);
        }
    }
}
