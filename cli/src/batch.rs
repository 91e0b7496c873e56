//! Many requests at once, each with its answer.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use config::FieldError;
use config::client::{Answer, Request, Response, StateLine};
use config::document::Document;
use config::resource::Identity;

use crate::error::Error;
use crate::link::{Link, request_line};
use crate::manifests::label;
use crate::ui::{Tone, Ui};
use crate::units::plural;

/// An object to be sent, and where it came from.
pub struct Item {
    /// The object's name in every line about it.
    pub label: String,
    /// File, line, document; empty for an object named on the command line.
    pub place: String,
}

/// Introduces this session under a feeder's name.
pub fn hello(link: &mut Link, feeder: &str) -> Result<(), Error> {
    link.send(&Request::Hello {
        feeder: feeder.to_owned(),
    })?;
    match link.receive()? {
        Response::Hello { .. } => Ok(()),
        other => Err(link.unexpected(other)),
    }
}

/// Divides documents into objects and complaints about documents that are none; says the latter.
/// Returns the items with their objects, and how many documents were bad.
pub fn objects(
    documents: Vec<Document>,
    ui: &mut Ui<'_>,
) -> Result<(Vec<(Item, serde_json::Value)>, usize), Error> {
    let mut items = Vec::with_capacity(documents.len());
    let mut bad = 0;
    for document in documents {
        let place = document.source.to_string();
        match document.content {
            Ok(object) => {
                let label = label(&Identity::of(&object));
                items.push((Item { label, place }, object));
            }
            Err(message) => {
                bad += 1;
                ui.complain(Tone::Bad, format!("{place}: {message}"))?;
            }
        }
    }
    Ok((items, bad))
}

/// Sends requests and hands on each one's answer, in order, and states whenever they come.
pub fn exchange<T>(
    link: &mut Link,
    requests: Vec<Request>,
    context: &mut T,
    mut on_answer: impl FnMut(&mut T, usize, Answer) -> Result<(), Error>,
    mut on_state: impl FnMut(&mut T, StateLine),
) -> Result<(), Error> {
    let count = requests.len();
    let sender = link.sender()?;
    // It ends when it has sent all, or when the link is dropped.
    std::thread::spawn(move || send_all(sender, requests));
    let mut answered = 0;
    while answered < count {
        match link.receive()? {
            // Without an event it is about the connection: too many clients.
            Response::Answer(answer) if answer.event.is_none() => {
                return Err(link.unexpected(Response::Answer(answer)));
            }
            Response::Answer(answer) => {
                on_answer(context, answered, answer)?;
                answered += 1;
            }
            Response::State(state) => on_state(context, state),
            other => return Err(link.unexpected(other)),
        }
    }
    Ok(())
}

/// Errors are not told here: the reading side sees the end of the connection and why.
fn send_all(mut stream: UnixStream, requests: Vec<Request>) {
    for request in requests {
        if stream.write_all(request_line(&request).as_bytes()).is_err() {
            return;
        }
    }
}

/// Says why an object was refused: one line for it, one per error.
pub fn refused(ui: &mut Ui<'_>, item: &Item, errors: &[FieldError]) -> Result<(), Error> {
    wrong(ui, item, "refused", errors)
}

/// Says what is wrong with an object, under `what` as a heading.
pub fn wrong(ui: &mut Ui<'_>, item: &Item, what: &str, errors: &[FieldError]) -> Result<(), Error> {
    ui.complain(Tone::Bad, format!("{} {what}:", item.label))?;
    let place = match item.place.as_str() {
        "" => String::new(),
        place => format!("{place}: "),
    };
    for error in errors {
        ui.complain(Tone::Plain, format!("  {place}{error}"))?;
    }
    Ok(())
}

/// The last line of a run in which something went wrong.
pub fn tally(ui: &mut Ui<'_>, wrong: usize, total: usize, what: &str) -> Result<(), Error> {
    let total = plural(total, "object");
    ui.complain(Tone::Bad, format!("{wrong} of {total} {what}"))
}
