//! Keeping the books: what is counted for virtual servers and members, and how flows are forgotten.

use conntrack::{Direction, EndReason, FlowId};

use super::{FlowData, State, mapped};
use crate::counters::{ServiceCounters, WorkerCounters};
use crate::journal::{Kind, Scribe};
use crate::tables::Tables;

impl State {
    /// Writes down what happened to a flow, if somebody wants to know.
    #[inline]
    pub(super) fn note(&self, id: FlowId, kind: Kind) {
        if let Some(scribe) = &self.scribe {
            self.write_down(scribe, id, kind);
        }
    }

    #[cold]
    pub(super) fn write_down(&self, scribe: &Scribe, id: FlowId, kind: Kind) {
        if let Some(flow) = self.flows.get(id) {
            scribe.note(&flow, kind);
        }
    }

    /// Forgets a flow before its time.
    pub(super) fn end_flow(&mut self, tables: &Tables, id: FlowId, reason: EndReason) {
        self.note(id, Kind::Ended(reason));
        if let Some(flow) = self.flows.get(id)
            && mapped::has_mapping(flow.data().member)
        {
            let (original, reply) = (flow.original(), flow.reply());
            mapped::release(&mut self.mappings, flow.data().member, &original, &reply);
            self.counters.nat_mappings.set(self.mappings.len() as u64);
        }
        let flow = self.flows.get(id);
        if let Some(client) = flow.and_then(|flow| self.counted.client_of(tables, &flow)) {
            tables.defences.leave(client);
        }
        if let Some(data) = self.flows.remove(id, reason) {
            account_end(
                tables,
                &mut self.selector,
                &self.counters,
                self.worker,
                &data,
                reason,
            );
        }
    }

    /// Counts a packet of `bytes` octets for its virtual server and member.
    #[inline(always)]
    pub(super) fn count_service(
        &self,
        tables: &Tables,
        data: &FlowData,
        direction: Direction,
        bytes: usize,
    ) {
        count_service(tables, self.worker, data, direction, bytes);
    }
}

/// Counts a packet of `bytes` octets for its virtual server and member.
#[inline(always)]
pub(super) fn count_service(
    tables: &Tables,
    worker: usize,
    data: &FlowData,
    direction: Direction,
    bytes: usize,
) {
    count_in_both(tables, worker, data, |cell| match direction {
        Direction::Original => cell.original.count(bytes),
        Direction::Reply => cell.reply.count(bytes),
    });
}

/// A worker's counters of a virtual server and of a member.
#[inline]
pub(super) fn service_counters<'t>(
    tables: &'t Tables,
    worker: usize,
    data: &FlowData,
) -> impl Iterator<Item = &'t ServiceCounters> + use<'t> {
    let virtual_server = tables.virtual_server_stats.get(data.virtual_server.index());
    let member = tables.member_stats.get(data.member.index());
    [virtual_server, member]
        .map(|stats| stats.and_then(|stats| stats.worker(worker)))
        .into_iter()
        .flatten()
}

/// Has `count` count something in each of these, where every packet does.
#[inline(always)]
pub(super) fn count_in_both(
    tables: &Tables,
    worker: usize,
    data: &FlowData,
    count: impl Fn(&ServiceCounters),
) {
    let virtual_server = tables.virtual_server_stats.get(data.virtual_server.index());
    if let Some(cell) = virtual_server.and_then(|stats| stats.worker(worker)) {
        count(cell);
    }
    let member = tables.member_stats.get(data.member.index());
    if let Some(cell) = member.and_then(|stats| stats.worker(worker)) {
        count(cell);
    }
}

/// Keeps the books when a flow ends.
pub(super) fn account_end(
    tables: &Tables,
    selector: &mut lb::Selector,
    counters: &WorkerCounters,
    worker: usize,
    data: &FlowData,
    reason: EndReason,
) {
    selector.closed(data.member);
    count_in_both(tables, worker, data, |cell| {
        cell.connections.sub(1);
        cell.ended[reason as usize].add(1);
    });
    counters.flows_ended_total.add(1);
    if reason == EndReason::Evicted {
        counters.flows_evicted_total.add(1);
    }
}
