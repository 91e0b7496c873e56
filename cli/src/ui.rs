//! The streams, with colour where it helps.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;

use crate::Terminal;
use crate::args::ColorChoice;
use crate::error::Error;

/// How something is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Plain,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// A heading.
    Strong,
}

/// The streams of a run.
pub struct Ui<'io> {
    out: &'io mut dyn Write,
    err: &'io mut dyn Write,
    color_out: bool,
    color_err: bool,
    /// Results go to a terminal, whose screen may be cleared.
    pub screen: bool,
}

impl<'io> Ui<'io> {
    pub fn new(
        out: &'io mut dyn Write,
        err: &'io mut dyn Write,
        terminal: Terminal,
        choice: ColorChoice,
    ) -> Self {
        let color = |is_terminal: bool| match choice {
            ColorChoice::Auto => is_terminal && !terminal.no_color,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self {
            out,
            err,
            color_out: color(terminal.stdout),
            color_err: color(terminal.stderr),
            screen: terminal.stdout,
        }
    }

    /// Writes octets to standard output as they are.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.out.write_all(octets).map_err(Error::Output)
    }

    /// A line of the result.
    pub fn line(&mut self, tone: Tone, text: impl Display) -> Result<(), Error> {
        let text = text.to_string();
        let line = paint(self.color_out, tone, &text);
        writeln!(self.out, "{line}").map_err(Error::Output)
    }

    /// A line on standard error that belongs to the result, such as why an object was refused.
    pub fn complain(&mut self, tone: Tone, text: impl Display) -> Result<(), Error> {
        // In the order in which a terminal would show both.
        self.flush()?;
        let text = text.to_string();
        let line = paint(self.color_err, tone, &text);
        writeln!(self.err, "{line}").map_err(Error::Output)
    }

    /// Says why the run ends here.
    pub fn error(&mut self, error: &Error) {
        let _ = self.out.flush();
        let word = paint(self.color_err, Tone::Bad, "tmmctl:");
        let text = error.to_string();
        // There is nowhere left to say that this could not be said.
        let _ = writeln!(self.err, "{word} {}", clean(&text));
        let _ = self.err.flush();
    }

    /// Everything written so far is seen.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::Output)
    }
}

fn paint(color: bool, tone: Tone, text: &str) -> Cow<'_, str> {
    let text = clean(text);
    let code = match tone {
        Tone::Plain => return text,
        Tone::Warn => "33",
        Tone::Bad => "31",
        Tone::Strong => "1",
    };
    if color {
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    } else {
        text
    }
}

/// Text from elsewhere must not speak to the terminal: control characters are spelled out.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}
