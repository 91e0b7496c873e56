//! How many connections a virtual server, and each of its clients, may have.
//!
//! The connections of a virtual server are counted anyway, by worker; the limit holds for the sum, and may be overshot by
//! one for each further worker that opens one in the same instant. Those of a client are counted where all
//! workers see them ([`Defences`](crate::defences::Defences)), from the moment on that its virtual server limits them
//! for the first time; a flow that was there before is counted neither when it began nor when it ends.

use conntrack::FlowRef;
use lb::VirtualServer;
use net::{Addr, IpProto, Layers, Packet, Timestamp};

use super::{Arrival, FlowData, State};
use crate::defences::{Client, Entered};
use crate::tables::Tables;
use crate::verdict::{Answer, DropReason, Verdict};

/// What a worker remembers of limits.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By virtual server: the first moment whose flows are counted by client, as [`moment`] has it.
    since: Vec<u64>,
    /// When a flow was opened last.
    opened: u64,
    /// The client that the flow which is being opened was counted for, if it was.
    entered: Option<Client>,
}

/// A time as a flow remembers its birth.
const fn moment(time: Timestamp) -> u64 {
    time.as_nanos() >> 10
}

impl Counted {
    /// Flows of virtual servers that limit their clients are counted from now on, and for ever: so whatever was
    /// counted when it began is counted when it ends.
    pub(super) fn refresh(&mut self, tables: &Tables) {
        for id in &tables.limits.clients {
            if self.since.len() <= id.index() {
                self.since.resize(id.index() + 1, u64::MAX);
            }
            if let Some(since) = self.since.get_mut(id.index())
                && *since == u64::MAX
            {
                // From now on, but for flows of the same moment that were opened before.
                *since = self.opened + 1;
            }
        }
    }

    /// Whether a connection that is to be opened now is to be [counted in](State::count_in).
    #[inline]
    pub(super) fn concerns(&mut self, virtual_server: &VirtualServer, now: Timestamp) -> bool {
        self.opened = self.opened.max(moment(now));
        virtual_server.profile.connection_limit > 0 || !self.since.is_empty()
    }

    #[inline]
    fn counts(&self, virtual_server: lb::VirtualServerId, born: Timestamp) -> bool {
        let since = self.since.get(virtual_server.index());
        since.is_some_and(|since| moment(born) >= *since)
    }

    /// The client whose flow this is, if it is counted.
    #[inline]
    pub(super) fn client_of(
        &self,
        tables: &Tables,
        flow: &FlowRef<'_, FlowData>,
    ) -> Option<Client> {
        let virtual_server = flow.data().virtual_server;
        // Most often nobody counts.
        self.since.get(virtual_server.index())?;
        self.client_counted(tables, flow)
    }

    #[cold]
    fn client_counted(&self, tables: &Tables, flow: &FlowRef<'_, FlowData>) -> Option<Client> {
        let virtual_server = flow.data().virtual_server;
        let counts = self.counts(virtual_server, flow.created());
        counts.then(|| tables.defences.client(virtual_server, &flow.original().src))
    }
}

impl State {
    /// Opens a flow, unless that would be one too many.
    pub(super) fn open_within_limits(
        &mut self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
    ) -> Verdict {
        self.counted.entered = None;
        match self.open(tables, arrival, packet, layers, virtual_server) {
            // Should it have ended again, its place was given back with it.
            Ok(verdict) => verdict,
            Err(reason) => {
                if let Some(client) = self.counted.entered.take() {
                    tables.defences.leave(client);
                }
                if let Some(scribe) = &mut self.scribe {
                    scribe.refuse(&layers.key, virtual_server.id, reason);
                }
                match reason {
                    DropReason::ConnectionLimit | DropReason::ClientLimit => {
                        self.over_limit(tables, arrival, packet, layers, virtual_server, reason)
                    }
                    _ => Verdict::Drop(reason),
                }
            }
        }
    }

    /// Whether one connection more is within the limits; if it is, it is counted for its client.
    pub(super) fn count_in(
        &mut self,
        tables: &Tables,
        virtual_server: &VirtualServer,
        client: &Addr,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let (profile, id) = (&virtual_server.profile, virtual_server.id);
        if profile.connection_limit > 0
            && let Some(stats) = tables.virtual_server_stats.get(id.index())
            && stats.connections() >= u64::from(profile.connection_limit)
        {
            return Err(DropReason::ConnectionLimit);
        }
        if !self.counted.counts(id, now) {
            return Ok(());
        }
        let client = tables.defences.client(id, client);
        let limit = match profile.client_limit {
            0 => u32::MAX,
            limit => limit,
        };
        match tables.defences.enter(client, limit) {
            Entered::Counted => {
                self.counted.entered = Some(client);
                Ok(())
            }
            Entered::OverLimit | Entered::Full => Err(DropReason::ClientLimit),
        }
    }

    /// Says no: to TCP so that the client knows at once, as BIG-IP does.
    fn over_limit(
        &self,
        tables: &Tables,
        arrival: &Arrival<'_>,
        packet: &mut Packet<'_>,
        layers: &Layers,
        virtual_server: &VirtualServer,
        reason: DropReason,
    ) -> Verdict {
        let stats = tables.virtual_server_stats.get(virtual_server.id.index());
        if let Some(cell) = stats.and_then(|stats| stats.worker(self.worker)) {
            cell.refused_total.add(1);
        }
        if layers.key.proto != IpProto::TCP {
            return Verdict::Drop(reason);
        }
        let answer = match reason {
            DropReason::ConnectionLimit => Answer::ResetConnectionLimit,
            _ => Answer::ResetClientLimit,
        };
        self.reset(tables, arrival, packet, layers, answer)
    }
}
