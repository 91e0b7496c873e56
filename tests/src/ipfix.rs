//! A reader of IPFIX messages (RFC 7011), written apart from the exporter: what it does not understand is an error.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a wrong message fails its test"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A field's number: the enterprise, 0 for IANA's own, and the element.
pub type Element = (u32, u16);

/// A data record: the octets of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The template it was written by.
    pub template: u16,
    fields: BTreeMap<Element, Vec<u8>>,
}

impl Record {
    /// Whether it has this field.
    pub fn has(&self, element: u16) -> bool {
        self.fields.contains_key(&(0, element))
    }

    /// A number.
    ///
    /// # Panics
    /// It is not there, or too long.
    pub fn number(&self, element: u16) -> u64 {
        self.of((0, element))
    }

    /// A number of the reverse direction (RFC 5103).
    ///
    /// # Panics
    /// It is not there, or too long.
    pub fn reverse(&self, element: u16) -> u64 {
        self.of((29_305, element))
    }

    fn of(&self, element: Element) -> u64 {
        let octets = &self.fields[&element];
        assert!(octets.len() <= 8, "{element:?}");
        octets
            .iter()
            .fold(0, |all, octet| all << 8 | u64::from(*octet))
    }

    /// An address.
    ///
    /// # Panics
    /// It is not there, or no address.
    pub fn address(&self, element: u16) -> IpAddr {
        let octets = self.fields[&(0, element)].as_slice();
        match <[u8; 4]>::try_from(octets) {
            Ok(v4) => Ipv4Addr::from(v4).into(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("an address")).into(),
        }
    }

    /// A text.
    ///
    /// # Panics
    /// It is not there, or not UTF-8.
    pub fn text(&self, element: u16) -> String {
        String::from_utf8(self.fields[&(0, element)].clone()).expect("UTF-8")
    }
}

/// A collector: it knows the templates it was told.
#[derive(Debug, Default)]
pub struct Collector {
    templates: BTreeMap<u16, Vec<(Element, u16)>>,
    /// All records, in the order they came.
    pub records: Vec<Record>,
    /// Templates that came, repeated ones too.
    pub templates_seen: usize,
    /// The longest message.
    pub longest: usize,
    /// Messages.
    pub messages: usize,
}

/// Takes octets off the front.
fn take<'a>(octets: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = octets.split_at(count);
    *octets = rest;
    front
}

fn number(octets: &mut &[u8], count: usize) -> u32 {
    take(octets, count)
        .iter()
        .fold(0, |all, octet| all << 8 | u32::from(*octet))
}

fn number16(octets: &mut &[u8]) -> u16 {
    u16::try_from(number(octets, 2)).expect("two octets")
}

impl Collector {
    /// Takes a message of the observation domain `domain`.
    ///
    /// # Panics
    /// It is malformed, its sequence number is not that of the records so far, or it is of another domain.
    pub fn take(&mut self, message: &[u8], domain: u32) {
        self.messages += 1;
        self.longest = self.longest.max(message.len());
        let mut rest = message;
        assert_eq!(number(&mut rest, 2), 10, "version");
        assert_eq!(number(&mut rest, 2) as usize, message.len(), "length");
        let _seconds = number(&mut rest, 4);
        let sequence = number(&mut rest, 4);
        assert_eq!(sequence as usize, self.records.len(), "sequence number");
        assert_eq!(number(&mut rest, 4), domain, "domain");
        while !rest.is_empty() {
            let id = number16(&mut rest);
            let length = number(&mut rest, 2) as usize;
            let set = take(&mut rest, length - 4);
            if id == 2 {
                self.templates(set);
            } else {
                self.data(id, set);
            }
        }
    }

    fn templates(&mut self, mut set: &[u8]) {
        while !set.is_empty() {
            let id = number16(&mut set);
            assert!(id >= 256);
            let count = number(&mut set, 2);
            let field = |set: &mut &[u8]| {
                let (element, length) = (number16(set), number16(set));
                let enterprise = if element & 0x8000 == 0 {
                    0
                } else {
                    number(set, 4)
                };
                ((enterprise, element & 0x7fff), length)
            };
            let fields: Vec<_> = (0..count).map(|_| field(&mut set)).collect();
            let before = self.templates.insert(id, fields.clone());
            assert!(before.is_none_or(|before| before == fields), "{id} changed");
            self.templates_seen += 1;
        }
    }

    fn data(&mut self, id: u16, mut set: &[u8]) {
        let template = self.templates.get(&id).expect("its template came before");
        while !set.is_empty() {
            let mut fields = BTreeMap::new();
            for (element, length) in template {
                let length = match *length {
                    65_535 => number(&mut set, 1) as usize,
                    length => usize::from(length),
                };
                assert!(length < 255, "the long form is not needed here");
                let value = take(&mut set, length).to_vec();
                assert_eq!(fields.insert(*element, value), None, "{element:?} twice");
            }
            self.records.push(Record {
                template: id,
                fields,
            });
        }
    }
}
