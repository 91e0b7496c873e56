//! A stream of bytes cut into JSON values.

/// Most elements of one value: some tens of megabytes once parsed.
pub const MAX_ELEMENTS: usize = 500_000;

/// What was found in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'b> {
    /// Brackets and strings balance; whether it is JSON is for the parser to say.
    Value {
        /// The value's bytes, from bracket to bracket.
        bytes: &'b [u8],
        /// The line it starts in, from 1.
        line: u64,
    },
    /// Something that cannot be a value.
    Garbage {
        /// The line it starts in, from 1.
        line: u64,
        /// Why not.
        why: Why,
    },
}

/// Why a piece of the stream is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It starts with neither `{` nor `[`.
    NotAnObject,
    /// The line ends inside a string.
    OpenString,
    /// The next value, or the end of the stream, comes before its last bracket.
    Unfinished,
    /// It is longer than the limit, in bytes.
    TooLong(usize),
    /// It has more elements than the limit: each costs far more memory than its bytes.
    TooManyElements(usize),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("expected a JSON object"),
            Self::OpenString => f.write_str("the line ends inside a string"),
            Self::Unfinished => f.write_str("the object does not end"),
            Self::TooLong(max) => write!(f, "longer than {max} bytes"),
            Self::TooManyElements(max) => write!(f, "more than {max} elements"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Before a value.
    Between,
    /// In a value, outside strings.
    Inside,
    /// In a string of a value.
    String,
    /// After a backslash in a string.
    Escape,
    /// In the rest of a line that is thrown away.
    Skip,
}

/// Cuts a stream into values, holding at most one incomplete value.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    mode: Mode,
    /// What came of the current value in earlier pieces of the stream.
    held: Vec<u8>,
    depth: usize,
    /// Commas and opening brackets of the current value: its elements, about.
    elements: usize,
    line: u64,
    start_line: u64,
    /// The next byte is the first of its line.
    line_start: bool,
    /// Something was thrown away; what looks like its continuation is thrown away in silence.
    recovering: bool,
}

impl Splitter {
    /// Takes values of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            mode: Mode::Between,
            held: Vec::new(),
            depth: 0,
            elements: 0,
            line: 1,
            start_line: 1,
            line_start: true,
            recovering: false,
        }
    }

    /// Takes the next piece of the stream and hands on what is complete. `take` says whether it
    /// could make something of a value; if not, the rest of its line is thrown away.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Item<'_>) -> bool) {
        // Where in `bytes` the part of the current value begins.
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let line_start = std::mem::replace(&mut self.line_start, byte == b'\n');
            match self.mode {
                Mode::Skip => {}
                Mode::Between => from = self.between(byte, at, line_start, &mut take),
                Mode::Escape if byte != b'\n' => self.mode = Mode::String,
                Mode::String | Mode::Escape => match byte {
                    b'\\' => self.mode = Mode::Escape,
                    b'"' => self.mode = Mode::Inside,
                    b'\n' => self.give_up(Why::OpenString, &mut take),
                    _ => {}
                },
                Mode::Inside => match byte {
                    b'"' => self.mode = Mode::String,
                    b'{' if line_start => {
                        self.give_up(Why::Unfinished, &mut take);
                        self.begin();
                        from = at;
                    }
                    b',' => self.elements += 1,
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.elements += 1;
                    }
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            let rest = bytes.get(from..=at).unwrap_or_default();
                            self.complete(rest, &mut take);
                        }
                    }
                    _ => {}
                },
            }
            if byte == b'\n' {
                self.line += 1;
                if matches!(self.mode, Mode::Skip) {
                    self.mode = Mode::Between;
                }
            }
        }
        if !matches!(self.mode, Mode::Between | Mode::Skip) {
            let rest = bytes.get(from..).unwrap_or_default();
            if let Some(why) = self.excess(rest) {
                self.give_up(why, &mut take);
                // The rest of the line belongs to it, unless the line has just ended.
                if !self.line_start {
                    self.mode = Mode::Skip;
                }
            } else {
                self.held.extend_from_slice(rest);
            }
        }
    }

    /// The stream has ended.
    pub fn finish(&mut self, mut take: impl FnMut(Item<'_>) -> bool) {
        if !matches!(self.mode, Mode::Between | Mode::Skip) {
            self.give_up(Why::Unfinished, &mut take);
        }
        self.mode = Mode::Between;
    }

    fn begin(&mut self) {
        self.mode = Mode::Inside;
        self.depth = 1;
        self.elements = 0;
        self.start_line = self.line;
        self.recovering = false;
    }

    /// A byte outside values; returns where a value begins, if it does.
    fn between(
        &mut self,
        byte: u8,
        at: usize,
        line_start: bool,
        take: &mut impl FnMut(Item<'_>) -> bool,
    ) -> usize {
        match byte {
            b'{' | b'[' => self.begin(),
            // Indented lines and closing brackets after something bad are the rest of it.
            b' ' | b'\t' | b'\r' | b'}' | b']' if self.recovering && line_start => {
                self.mode = Mode::Skip;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                self.start_line = self.line;
                self.give_up(Why::NotAnObject, take);
                self.mode = Mode::Skip;
            }
        }
        at
    }

    /// Why the current value, with `rest`, is too much.
    fn excess(&self, rest: &[u8]) -> Option<Why> {
        if self.held.len() + rest.len() > self.max {
            Some(Why::TooLong(self.max))
        } else if self.elements > MAX_ELEMENTS {
            Some(Why::TooManyElements(MAX_ELEMENTS))
        } else {
            None
        }
    }

    /// The value ends with `rest`.
    fn complete(&mut self, rest: &[u8], take: &mut impl FnMut(Item<'_>) -> bool) {
        let line = self.start_line;
        let good = if let Some(why) = self.excess(rest) {
            take(Item::Garbage { line, why });
            false
        } else if self.held.is_empty() {
            take(Item::Value { bytes: rest, line })
        } else {
            self.held.extend_from_slice(rest);
            take(Item::Value {
                bytes: &self.held,
                line,
            })
        };
        self.reset_held();
        self.recovering = !good;
        self.mode = if good { Mode::Between } else { Mode::Skip };
    }

    /// The current value is thrown away.
    fn give_up(&mut self, why: Why, take: &mut impl FnMut(Item<'_>) -> bool) {
        take(Item::Garbage {
            line: self.start_line,
            why,
        });
        self.reset_held();
        self.recovering = true;
        self.mode = Mode::Between;
    }

    /// Empties the buffer, and gives back what one large value made of it.
    fn reset_held(&mut self) {
        self.held.clear();
        self.held.shrink_to(64 * 1024);
    }
}
