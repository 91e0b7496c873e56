//! From the entries of a journal to messages. Pure: times and names come in, octets go out.

use std::collections::HashMap;
use std::time::Duration;

use conntrack::EndReason;
use net::{Addr, FlowKey, Timestamp};

use super::stats::Stats;
use super::template::{self, Template};
use super::wire::{self, Message};
use crate::journal::{Entry, Kind};
use crate::verdict::DropReason;

/// What is sent, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The observation domain.
    pub domain: u32,
    /// The most octets of a message.
    pub message_octets: usize,
    /// How often templates are repeated.
    pub template_refresh: Duration,
    /// Whether records of flows are sent.
    pub flows: bool,
    /// Whether events are sent.
    pub events: bool,
    /// The most flows of which is remembered what was told of them while they last.
    pub lasting: usize,
}

/// What one of these flows takes, octets: for the memory plan.
pub const LASTING_OCTETS: usize = (size_of::<Lasting>() + size_of::<[u64; 5]>()) * 8 / 7 + 2;

/// What entries name: virtual servers and VLANs.
pub trait Names {
    /// The name of the virtual server of an entry.
    fn virtual_server(&self, entry: &Entry) -> &str;
    /// The tags of its VLANs: of the client's and of the server's. 0 for none.
    fn tags(&self, entry: &Entry) -> [u16; 2];
}

/// A flow that is known to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lasting {
    original: FlowKey,
    created: Timestamp,
}

/// What was told of it, and when.
#[derive(Debug, Clone, Copy)]
struct Told {
    packets: [u64; 2],
    octets: [u64; 2],
    at: Timestamp,
}

/// Time as the collector knows it.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// Nanoseconds since 1970 at the zero of [`Timestamp`].
    pub zero: u64,
}

impl WallClock {
    fn millis(self, at: Timestamp) -> u64 {
        self.zero.saturating_add(at.as_nanos()) / 1_000_000
    }

    fn seconds(self, at: Timestamp) -> u32 {
        // In the header it begins anew in 2106.
        u32::try_from(self.millis(at) / 1000 % (1 << 32)).unwrap_or(0)
    }
}

/// Makes messages of entries.
#[derive(Debug)]
pub struct Exporter {
    options: Options,
    message: Message,
    /// Data records sent so far, modulo 2^32.
    sequence: u32,
    /// When the templates were sent last.
    templates_at: Option<Timestamp>,
    /// Whether the collector may have lost them.
    templates_lost: bool,
    /// What was told of flows that last; so a record says what passed since the one before.
    lasting: HashMap<Lasting, Told>,
    /// When flows were looked for last whose end was never told.
    tidied: Timestamp,
}

/// When something is made, and where it goes.
pub struct Outlet<'a> {
    /// Now.
    pub now: Timestamp,
    /// For the collector.
    pub clock: WallClock,
    /// What is counted.
    pub stats: &'a Stats,
    /// Takes a message.
    pub send: &'a mut dyn FnMut(&[u8]),
}

impl Exporter {
    /// One that has sent nothing yet.
    pub fn new(options: Options) -> Self {
        let largest = template::ALL.iter().map(|t| wire::room(t.fields)).max();
        let least = wire::HEADER + 4 + largest.unwrap_or(0);
        Self {
            options,
            message: Message::new(options.message_octets.max(least)),
            sequence: 0,
            templates_at: None,
            templates_lost: false,
            lasting: HashMap::default(),
            tidied: Timestamp::ZERO,
        }
    }

    /// The collector may have lost the templates: they go before the next record. Not sooner, or a collector that is
    /// away would be sent nothing but templates, one message after the other.
    pub const fn repeat_templates(&mut self) {
        self.templates_lost = true;
    }

    /// Takes an entry. Messages that are full go out.
    pub fn take(&mut self, entry: &Entry, names: &dyn Names, out: &mut Outlet<'_>) {
        match entry.kind {
            Kind::Opened => self.event(entry, Change::Began, names, out),
            Kind::Lasts => self.lasts(entry, names, out),
            Kind::Ended(reason) => {
                if self.options.flows {
                    self.ended(entry, reason, names, out);
                }
                self.event(entry, Change::Ended, names, out);
            }
            Kind::Refused(reason) => self.refused(entry, reason, names, out),
        }
    }

    /// Sends what has been made so far.
    pub fn flush(&mut self, out: &mut Outlet<'_>) {
        if self.message.is_empty() {
            return;
        }
        let (seconds, domain) = (out.clock.seconds(out.now), self.options.domain);
        let records = self
            .message
            .finish(seconds, self.sequence, domain, &mut *out.send);
        self.sequence = self.sequence.wrapping_add(records);
        out.stats.records.add(u64::from(records));
    }

    /// Sends the templates if it is time to; over UDP, nobody says whether they arrived (RFC 7011
    /// section 8.4).
    pub fn refresh_templates(&mut self, out: &mut Outlet<'_>) {
        let refresh = self.options.template_refresh;
        let fresh = |at: Timestamp| out.now.since(at) < refresh && out.now >= at;
        if self.templates_at.is_some_and(fresh) {
            return;
        }
        self.templates_at = Some(out.now);
        for template in &template::ALL {
            if !self.message.has_room_for_template(template.fields) {
                self.flush(out);
            }
            self.message.template(template.id, template.fields);
            out.stats.templates.add(1);
        }
    }

    fn begin(&mut self, template: &Template, out: &mut Outlet<'_>) {
        if std::mem::take(&mut self.templates_lost) {
            self.templates_at = None;
        }
        self.refresh_templates(out);
        if !self
            .message
            .has_room(template.id, wire::room(template.fields))
        {
            self.flush(out);
        }
        self.message.record(template.id);
    }

    fn lasts(&mut self, entry: &Entry, names: &dyn Names, out: &mut Outlet<'_>) {
        if !self.options.flows {
            return;
        }
        let key = Lasting {
            original: entry.original,
            created: entry.created,
        };
        if self.lasting.len() >= self.options.lasting && !self.lasting.contains_key(&key) {
            self.tidy(entry.at);
            if self.lasting.len() >= self.options.lasting {
                // It is told of when it ends, in one.
                out.stats.skipped.add(1);
                return;
            }
        }
        let told = Told {
            packets: entry.packets,
            octets: entry.octets,
            at: entry.at,
        };
        let before = self.lasting.insert(key, told);
        let since = before.map_or(entry.created, |told| told.at);
        // Active timeout.
        self.flow(entry, before.as_ref(), [since, entry.at], 2, names, out);
    }

    /// Forgets flows that have not been told of for a day: their end was lost.
    fn tidy(&mut self, now: Timestamp) {
        const FORGOTTEN: Duration = Duration::from_hours(24);
        const APART: Duration = Duration::from_mins(10);
        if now.since(self.tidied) >= APART {
            self.tidied = now;
            self.lasting
                .retain(|_, told| now.since(told.at) < FORGOTTEN);
        }
    }

    fn ended(&mut self, entry: &Entry, reason: EndReason, names: &dyn Names, out: &mut Outlet<'_>) {
        let before = self.lasting.remove(&Lasting {
            original: entry.original,
            created: entry.created,
        });
        let since = before.map_or(entry.created, |told| told.at);
        let times = [since, entry.last_seen.max(since)];
        self.flow(
            entry,
            before.as_ref(),
            times,
            end_reason(reason),
            names,
            out,
        );
    }

    /// A record of what passed, less what was told before.
    fn flow(
        &mut self,
        entry: &Entry,
        before: Option<&Told>,
        [from, to]: [Timestamp; 2],
        reason: u8,
        names: &dyn Names,
        out: &mut Outlet<'_>,
    ) {
        let v4 = entry.original.src.is_v4();
        let template = if v4 {
            template::FLOW_V4
        } else {
            template::FLOW_V6
        };
        self.begin(&template, out);
        let message = &mut self.message;
        message.put(&out.clock.millis(from).to_be_bytes());
        message.put(&out.clock.millis(to).to_be_bytes());
        put_addresses(message, entry, true);
        put_ports(message, entry, true);
        // The record goes from the one who began it (RFC 5103 section 6.3).
        let initiator = 1;
        message.put(&[entry.original.proto.0, reason, initiator]);
        for tag in names.tags(entry) {
            message.put(&tag.to_be_bytes());
        }
        for at in 0..2 {
            let delta = |all: [u64; 2], told: Option<[u64; 2]>| {
                all[at].saturating_sub(told.map_or(0, |told| told[at]))
            };
            let octets = delta(entry.octets, before.map(|told| told.octets));
            let packets = delta(entry.packets, before.map(|told| told.packets));
            message.put(&octets.to_be_bytes());
            message.put(&packets.to_be_bytes());
        }
        message.put_text(names.virtual_server(entry));
    }

    fn event(&mut self, entry: &Entry, change: Change, names: &dyn Names, out: &mut Outlet<'_>) {
        if !self.options.events {
            return;
        }
        let (v4, translated) = (entry.original.src.is_v4(), entry.is_translated());
        let (template, event) = match (translated, v4) {
            // NAT44 session creation and deletion.
            (true, true) => (template::NAT_V4, [4, 5][change as usize]),
            // For IPv6 to IPv6 there are none but the translation's own.
            (true, false) => (template::NAT_V6, [1, 2][change as usize]),
            (false, true) => (template::EVENT_V4, [1, 2][change as usize]),
            (false, false) => (template::EVENT_V6, [1, 2][change as usize]),
        };
        self.begin(&template, out);
        let message = &mut self.message;
        message.put(&out.clock.millis(entry.at).to_be_bytes());
        message.put(&[event]);
        put_addresses(message, entry, translated);
        put_ports(message, entry, translated);
        message.put(&[entry.original.proto.0]);
        message.put_text(names.virtual_server(entry));
    }

    fn refused(
        &mut self,
        entry: &Entry,
        reason: DropReason,
        names: &dyn Names,
        out: &mut Outlet<'_>,
    ) {
        if !self.options.events {
            return;
        }
        let proto = entry.original.proto.0;
        let time = out.clock.millis(entry.at).to_be_bytes();
        match reason {
            DropReason::SnatExhausted | DropReason::NoSelfIp | DropReason::NoSnatAddress => {
                // NAT ports, or NAT addresses exhausted.
                let event = match reason {
                    DropReason::SnatExhausted => 12,
                    _ => 3,
                };
                self.begin(&template::EXHAUSTED, out);
                self.message.put(&time);
                self.message.put(&[event, proto]);
            }
            DropReason::TableFull | DropReason::NatMappings => {
                self.begin(&template::QUOTA, out);
                self.message.put(&time);
                // Quota exceeded: the maximum of session entries, or of mappings (BIB entries).
                let quota: u32 = match reason {
                    DropReason::TableFull => 1,
                    _ => 2,
                };
                self.message.put(&[13]);
                self.message.put(&quota.to_be_bytes());
                self.message.put(&[proto]);
            }
            _ => {
                let v4 = entry.original.src.is_v4();
                let template = if v4 {
                    template::EVENT_V4
                } else {
                    template::EVENT_V6
                };
                self.begin(&template, out);
                self.message.put(&time);
                // Flow denied.
                self.message.put(&[3]);
                put_addresses(&mut self.message, entry, false);
                put_ports(&mut self.message, entry, false);
                self.message.put(&[proto]);
            }
        }
        self.message.put_text(names.virtual_server(entry));
    }
}

/// What an event says of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Change {
    Began = 0,
    Ended = 1,
}

/// `flowEndReason` (RFC 5102 section 5.11.3).
const fn end_reason(reason: EndReason) -> u8 {
    match reason {
        EndReason::Idle | EndReason::Unanswered => 1,
        EndReason::Closed | EndReason::Reset | EndReason::Reopened => 3,
        EndReason::Removed => 4,
        EndReason::Evicted => 5,
    }
}

/// Source and destination, and as the server sees them.
fn put_addresses(message: &mut Message, entry: &Entry, translated: bool) {
    let after = entry.reply.inverted();
    put_address(message, &entry.original.src);
    put_address(message, &entry.original.dst);
    if translated {
        put_address(message, &after.src);
        put_address(message, &after.dst);
    }
}

fn put_address(message: &mut Message, addr: &Addr) {
    if addr.is_v4() {
        message.put(&addr.v4_octets());
    } else {
        message.put(addr.octets());
    }
}

/// Ports, and as the server sees them.
fn put_ports(message: &mut Message, entry: &Entry, translated: bool) {
    let after = entry.reply.inverted();
    message.put(&entry.original.sport().0.to_be_bytes());
    message.put(&entry.original.dport().0.to_be_bytes());
    if translated {
        message.put(&after.sport().0.to_be_bytes());
        message.put(&after.dport().0.to_be_bytes());
    }
}
