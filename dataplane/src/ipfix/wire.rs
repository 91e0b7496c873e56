//! IPFIX messages as octets (RFC 7011 section 3): header, sets, templates, data records.

/// The version in each message's header.
const VERSION: u16 = 10;
/// Octets of a message's header.
pub const HEADER: usize = 16;
/// Octets of a set's header.
const SET_HEADER: usize = 4;
/// The set that holds templates.
const TEMPLATE_SET: u16 = 2;
/// The number under which the elements of the reverse direction are registered (RFC 5103 section 6.1).
const REVERSE: u32 = 29_305;
/// The length of a field that says its own.
pub const VARIABLE: u16 = 65_535;

/// A field of a template: an information element and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    id: u16,
    length: u16,
    reverse: bool,
}

impl Field {
    /// The element `id` of the IANA registry in `length` octets.
    pub const fn new(id: u16, length: u16) -> Self {
        Self {
            id,
            length,
            reverse: false,
        }
    }

    /// The same of the other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            reverse: true,
            ..self
        }
    }

    /// Its length in a record, at most.
    const fn room(self) -> usize {
        if self.length == VARIABLE {
            1 + LONGEST_TEXT
        } else {
            self.length as usize
        }
    }
}

/// The longest text in a record, octets: its length takes one octet.
pub const LONGEST_TEXT: usize = 254;

/// The most octets that a record of these fields takes.
pub fn room(fields: &[Field]) -> usize {
    fields.iter().map(|field| field.room()).sum()
}

/// A message that is being written.
#[derive(Debug)]
pub struct Message {
    octets: Vec<u8>,
    /// The most octets it may have.
    limit: usize,
    /// Where the set begins that is being written, and its number.
    set: Option<(usize, u16)>,
    /// Data records in it.
    records: u32,
}

impl Message {
    /// An empty one that gets no longer than `limit` octets.
    pub fn new(limit: usize) -> Self {
        let mut octets = Vec::with_capacity(limit);
        octets.resize(HEADER, 0);
        Self {
            octets,
            limit,
            set: None,
            records: 0,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.octets.len() == HEADER
    }

    /// Whether `more` octets of the set `id` have room.
    pub fn has_room(&self, id: u16, more: usize) -> bool {
        let header = match self.set {
            Some((_, current)) if current == id => 0,
            _ => SET_HEADER,
        };
        self.octets.len() + header + more <= self.limit
    }

    /// Appends the template `id`. Its room must have been asked for, see
    /// [`template_octets`].
    pub fn template(&mut self, id: u16, fields: &[Field]) {
        self.enter_set(TEMPLATE_SET);
        self.put(&id.to_be_bytes());
        let count = u16::try_from(fields.len()).unwrap_or(u16::MAX);
        self.put(&count.to_be_bytes());
        for field in fields {
            let reverse = if field.reverse { 0x8000 } else { 0 };
            self.put(&(field.id | reverse).to_be_bytes());
            self.put(&field.length.to_be_bytes());
            if field.reverse {
                self.put(&REVERSE.to_be_bytes());
            }
        }
    }

    /// Whether a template of these fields has room.
    pub fn has_room_for_template(&self, fields: &[Field]) -> bool {
        self.has_room(TEMPLATE_SET, template_octets(fields))
    }

    /// Begins a data record of the template `id`; its fields follow.
    pub fn record(&mut self, id: u16) {
        self.enter_set(id);
        self.records += 1;
    }

    /// Appends octets of a field.
    pub fn put(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Appends a field that says its own length (RFC 7011 section 7); of a text that is too long, the beginning.
    pub fn put_text(&mut self, text: &str) {
        let mut end = text.len().min(LONGEST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        self.put(&[u8::try_from(text.len()).unwrap_or(0)]);
        self.put(text.as_bytes());
    }

    fn enter_set(&mut self, id: u16) {
        if self.set.is_some_and(|(_, current)| current == id) {
            return;
        }
        self.close_set();
        self.set = Some((self.octets.len(), id));
        self.put(&id.to_be_bytes());
        self.put(&[0; 2]);
    }

    fn close_set(&mut self) {
        if let Some((at, _)) = self.set.take() {
            let length = u16::try_from(self.octets.len() - at).unwrap_or(u16::MAX);
            self.overwrite(at + 2, &length.to_be_bytes());
        }
    }

    fn overwrite(&mut self, at: usize, octets: &[u8]) {
        if let Some(place) = self.octets.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    /// Completes it with the header: `seconds` since 1970, and of the data records that were sent before it the
    /// number. Hands it to `send`, and is empty again. Returns how many data records were in it.
    pub fn finish(
        &mut self,
        seconds: u32,
        sequence: u32,
        domain: u32,
        send: impl FnOnce(&[u8]),
    ) -> u32 {
        self.close_set();
        let length = u16::try_from(self.octets.len()).unwrap_or(u16::MAX);
        self.overwrite(0, &VERSION.to_be_bytes());
        self.overwrite(2, &length.to_be_bytes());
        self.overwrite(4, &seconds.to_be_bytes());
        self.overwrite(8, &sequence.to_be_bytes());
        self.overwrite(12, &domain.to_be_bytes());
        send(&self.octets);
        self.octets.truncate(HEADER);
        std::mem::take(&mut self.records)
    }
}

/// Octets of a template of these fields, without its set's header.
pub fn template_octets(fields: &[Field]) -> usize {
    let each = |field: &Field| if field.reverse { 8 } else { 4 };
    4 + fields.iter().map(each).sum::<usize>()
}
