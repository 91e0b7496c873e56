//! How long flows may be silent: the different timeouts that virtual servers have, each once.
//!
//! A configuration has few. A worker tells its flow table each when it takes the configuration up, and a new flow is
//! entered with the name that the table gave: nothing is compared or searched for per flow.

use std::collections::HashMap;

use conntrack::{Timeouts, TimeoutsId};
use lb::VirtualServerId;

/// The timeouts of all virtual servers.
#[derive(Debug, Default)]
pub struct Lasting {
    different: Vec<Timeouts>,
    /// Places in `different`, by virtual server id.
    of: Vec<u32>,
    places: HashMap<Timeouts, u32>,
}

impl Lasting {
    /// Sets those of a virtual server.
    pub fn set(&mut self, virtual_server: VirtualServerId, timeouts: &Timeouts) {
        let new = u32::try_from(self.different.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(*timeouts).or_insert(new);
        if place == new {
            self.different.push(*timeouts);
        }
        let at = virtual_server.index();
        if at >= self.of.len() {
            self.of.resize(at + 1, u32::MAX);
        }
        if let Some(slot) = self.of.get_mut(at) {
            *slot = place;
        }
    }
}

/// What one worker's flow table calls them.
#[derive(Debug, Default)]
pub struct Names(Vec<TimeoutsId>);

impl Names {
    /// Takes up a configuration. `name` asks the table.
    pub fn refresh(&mut self, lasting: &Lasting, name: impl FnMut(&Timeouts) -> TimeoutsId) {
        self.0.clear();
        self.0.extend(lasting.different.iter().map(name));
    }

    /// The name of a virtual server's.
    #[inline]
    pub fn of(&self, lasting: &Lasting, virtual_server: VirtualServerId) -> TimeoutsId {
        let place = lasting.of.get(virtual_server.index());
        let name = place.and_then(|place| self.0.get(*place as usize));
        name.copied().unwrap_or(TimeoutsId::TCP)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn virtual_servers_share_the_timeouts_that_are_the_same() {
        let mut registry = lb::Registry::new();
        let ids: Vec<_> = (0..1000)
            .map(|n| registry.virtual_server(&format!("server {n}")))
            .collect();
        let timeouts = |n: usize| {
            let idle = Duration::from_secs(n as u64 % 7 + 1);
            Timeouts::udp().with_idle(idle)
        };
        let mut lasting = Lasting::default();
        // From the last to the first, and one that is not there.
        for (n, id) in ids.iter().enumerate().skip(1).rev() {
            lasting.set(*id, &timeouts(n));
        }
        assert_eq!(lasting.different.len(), 7);
        let config = conntrack::TableConfig {
            capacity: 1,
            seed: 1,
            hugetlb: false,
        };
        let mut flows: conntrack::Table<()> = conntrack::Table::new(config);
        let mut names = Names::default();
        // Each configuration gets the names that the one before it had.
        for _ in 0..3 {
            names.refresh(&lasting, |timeouts| flows.timeouts_id(timeouts));
            for (n, id) in ids.iter().enumerate().skip(1) {
                let expected = flows.timeouts_id(&timeouts(n));
                assert_eq!(names.of(&lasting, *id), expected);
            }
        }
        assert_eq!(names.of(&lasting, ids[0]), TimeoutsId::TCP);
    }
}
