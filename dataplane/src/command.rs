//! What the control thread asks of a worker. Commands travel through a bounded ring; a worker takes
//! a few per turn and never waits for the one who asked.

use std::time::Duration;

use arrayvec::ArrayVec;
use conntrack::{Cursor, Direction, FlowId, Table};
use crossbeam::channel::{Sender, TrySendError};
use net::{FlowKey, IpPrefix, IpProto, L4Port, PortId, Timestamp, VlanIndex};

use crate::pipeline::FlowData;
use crate::tables::Tables;

/// The longest frame the control thread sends: ARP and neighbour discovery need far less.
pub const MAX_CONTROL_FRAME: usize = 128;

/// A request to a worker.
#[derive(Debug)]
pub enum Command {
    /// Send this frame by this port.
    Send {
        /// The port.
        port: PortId,
        /// The whole frame, tags included.
        frame: ArrayVec<u8, MAX_CONTROL_FRAME>,
    },
    /// Tell the flows of the table, in pieces.
    Dump(FlowDump),
    /// End the flows that a filter selects.
    Flush(FlowFlush),
    /// Tell how many flows are not closed.
    CountOpen(Sender<u64>),
    /// Let go of this port's device: it is to be stopped.
    Park(PortId),
    /// Take this port's device up again.
    Resume(PortId),
}

/// Which flows are wanted; what is `None` selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Name of the virtual server.
    pub virtual_server: Option<String>,
    /// The client's address, or a prefix of it.
    pub client: Option<IpPrefix>,
    /// The pool member's address, or a prefix of it.
    pub member: Option<IpPrefix>,
    /// The destination the client used, or a prefix of it.
    pub destination: Option<IpPrefix>,
    /// The port of that destination.
    pub port: Option<L4Port>,
    /// The protocol.
    pub protocol: Option<IpProto>,
    /// The state, as shown.
    pub state: Option<String>,
}

/// One flow, as shown to the operator.
#[derive(Debug, Clone)]
pub struct FlowRow {
    /// The worker it is on.
    pub worker: u16,
    /// The client's packets as they arrive.
    pub original: FlowKey,
    /// The server's packets as they arrive.
    pub reply: FlowKey,
    /// Name of the virtual server.
    pub virtual_server: String,
    /// State of the protocol.
    pub state: &'static str,
    /// Since when it exists.
    pub age: Duration,
    /// Since when it is silent.
    pub idle: Duration,
    /// Frames and octets from the client.
    pub original_traffic: (u64, u64),
    /// Frames and octets from the server.
    pub reply_traffic: (u64, u64),
    /// Where the client's packets leave and where the server's do.
    pub vlans: (VlanIndex, VlanIndex),
}

/// A piece of a dump. A channel that closes before [`DumpPiece::End`] says that the dump was cut
/// short: the asker let it wait for too long.
#[derive(Debug)]
pub enum DumpPiece {
    /// Some flows; never none.
    Rows(Vec<FlowRow>),
    /// That was all of this worker.
    End,
    /// This worker has too many dumps under way and tells nothing.
    Refused,
}

/// How far a dump has come in one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpStep {
    /// Some flows were looked at, and there are more.
    Moved,
    /// Nothing was done: what was told before is not taken yet.
    Waits,
    /// It is over: all is told, or nobody listens any more.
    Over,
}

/// How long a dump waits for its asker before it is given up.
const DUMP_PATIENCE: Duration = Duration::from_secs(5);

/// A running dump of one worker's flow table.
#[derive(Debug)]
pub struct FlowDump {
    /// The worker that is asked.
    pub worker: u16,
    /// Which flows.
    pub filter: FlowFilter,
    /// When the dump was asked for: ages are told relative to it.
    pub now: Timestamp,
    /// Where the rows go.
    pub rows: Sender<DumpPiece>,
    /// How far it has come; `None` when only the end is left to tell.
    pub cursor: Option<Cursor>,
    /// Since when the asker takes nothing.
    pub waits_since: Option<Timestamp>,
}

impl FlowDump {
    /// A dump of `worker`'s flows from the first one on.
    pub fn new(worker: u16, filter: FlowFilter, now: Timestamp, rows: Sender<DumpPiece>) -> Self {
        Self {
            worker,
            filter,
            now,
            rows,
            cursor: Some(Cursor::default()),
            waits_since: None,
        }
    }

    /// Says that it is not carried out.
    pub fn refuse(self) {
        // If there is no room even for that, the asker sees its channel close.
        let _ = self.rows.try_send(DumpPiece::Refused);
    }

    /// Looks at up to `budget` flows more, or tells the end. Never waits.
    pub fn tell(
        &mut self,
        flows: &Table<FlowData>,
        tables: &Tables,
        budget: usize,
        now: Timestamp,
    ) -> DumpStep {
        if self.rows.is_full() {
            return self.wait(now);
        }
        let Some(cursor) = self.cursor else {
            return match self.rows.try_send(DumpPiece::End) {
                Err(TrySendError::Full(_)) => self.wait(now),
                Ok(()) | Err(TrySendError::Disconnected(_)) => DumpStep::Over,
            };
        };
        let (piece, next) = flows.iter_from(cursor, budget);
        let rows: Vec<FlowRow> = piece
            .filter(|(_, flow)| self.filter.selects(flow, tables))
            .map(|(_, flow)| self.row(flow, tables))
            .collect();
        if !rows.is_empty() {
            match self.rows.try_send(DumpPiece::Rows(rows)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return self.wait(now),
                Err(TrySendError::Disconnected(_)) => return DumpStep::Over,
            }
        }
        self.cursor = next;
        self.waits_since = None;
        DumpStep::Moved
    }

    fn wait(&mut self, now: Timestamp) -> DumpStep {
        let since = *self.waits_since.get_or_insert(now);
        if now.since(since) < DUMP_PATIENCE {
            DumpStep::Waits
        } else {
            DumpStep::Over
        }
    }

    fn row(&self, flow: conntrack::FlowRef<'_, FlowData>, tables: &Tables) -> FlowRow {
        let data = flow.data();
        FlowRow {
            worker: self.worker,
            original: flow.original(),
            reply: flow.reply(),
            virtual_server: name_of(flow, tables).to_owned(),
            state: flow.state().name(),
            age: self.now.since(flow.created()),
            idle: self.now.since(flow.last_seen()),
            original_traffic: (
                flow.packets(Direction::Original),
                flow.bytes(Direction::Original),
            ),
            reply_traffic: (flow.packets(Direction::Reply), flow.bytes(Direction::Reply)),
            vlans: (data.original.vlan(), data.reply.vlan()),
        }
    }
}

/// The name of a flow's virtual server.
fn name_of<'t>(flow: conntrack::FlowRef<'_, FlowData>, tables: &'t Tables) -> &'t str {
    let server = tables.virtual_servers.get(flow.data().virtual_server);
    server.map_or("(gone)", |server| server.name.as_str())
}

/// Flows looked at per turn and flush, each of which may be ended: some microseconds of work.
const FLUSH_BUDGET: usize = 64;

/// A request to end flows, under way on one worker. Flows that are opened meanwhile may be met or not.
#[derive(Debug)]
pub struct FlowFlush {
    filter: FlowFilter,
    /// Where to go on; `None` at the end.
    cursor: Option<Cursor>,
    ended: u64,
    /// Who wants to know how many were ended.
    asker: Sender<u64>,
}

impl FlowFlush {
    /// Ends what `filter` selects, and says to `asker` how many flows these were.
    pub fn new(filter: FlowFilter, asker: Sender<u64>) -> Self {
        Self {
            filter,
            cursor: Some(Cursor::default()),
            ended: 0,
            asker,
        }
    }

    /// Which of the next flows are to be ended. Once there are no further ones the asker is told, and the
    /// flush is over: `None`.
    pub fn next(
        &mut self,
        flows: &Table<FlowData>,
        tables: &Tables,
    ) -> Option<ArrayVec<FlowId, FLUSH_BUDGET>> {
        let Some(cursor) = self.cursor else {
            // One answer for each worker fits; nobody may be listening any more.
            let _ = self.asker.try_send(self.ended);
            return None;
        };
        let (piece, next) = flows.iter_from(cursor, FLUSH_BUDGET);
        let selected = piece.filter(|(_, flow)| self.filter.selects(flow, tables));
        let selected: ArrayVec<FlowId, FLUSH_BUDGET> = selected.map(|(id, _)| id).collect();
        self.cursor = next;
        self.ended += selected.len() as u64;
        Some(selected)
    }
}

impl FlowFilter {
    fn selects(&self, flow: &conntrack::FlowRef<'_, FlowData>, tables: &Tables) -> bool {
        let (original, reply) = (flow.original(), flow.reply());
        let is_in = |prefix: Option<IpPrefix>, addr: &net::Addr| {
            prefix.is_none_or(|prefix| prefix.contains(addr.ip()))
        };
        self.virtual_server.as_ref().is_none_or(|name| {
            let known = name_of(*flow, tables);
            let object = known.rsplit_once(' ').map(|(object, _)| object);
            known == name || object == Some(name)
        }) && is_in(self.client, &original.src)
            && is_in(self.member, &reply.src)
            && is_in(self.destination, &original.dst)
            && self.port.is_none_or(|port| original.dport() == port)
            && self.protocol.is_none_or(|proto| original.proto == proto)
            && self
                .state
                .as_ref()
                .is_none_or(|state| state.eq_ignore_ascii_case(flow.state().name()))
    }
}
