//! `tmmctl validate`.

use std::io::Read;

use config::Limits;
use config::client::{Answer, Request};
use config::document::{self, Document};
use config::resource::Identity;

use crate::args::{Global, ValidateArgs};
use crate::batch::{self, Item};
use crate::error::Error;
use crate::link::Link;
use crate::ui::{Tone, Ui};
use crate::{FAILED, OK, manifests};

pub fn run(
    global: &Global,
    args: &ValidateArgs,
    mut stdin: impl Read,
    ui: &mut Ui<'_>,
) -> Result<u8, Error> {
    let documents = manifests::load(&args.files.files, args.files.recursive, &mut stdin)?;
    let total = documents.len();
    let wrong = if args.offline {
        offline(&documents, args.quiet, ui)?
    } else {
        online(global, documents, args.quiet, ui)?
    };
    if wrong == 0 {
        return Ok(OK);
    }
    batch::tally(ui, wrong, total, "not valid")?;
    Ok(FAILED)
}

/// How many documents are wrong by what this release knows.
fn offline(documents: &[Document], quiet: bool, ui: &mut Ui<'_>) -> Result<usize, Error> {
    let (_, problems) = document::load(documents, Limits::default());
    let wrong = problems.len();
    // At most one for each document, in their order.
    let mut problems = problems.into_iter().peekable();
    for document in documents {
        let problem = problems.next_if(|p| p.source == document.source);
        let place = document.source.to_string();
        match (&document.content, problem) {
            (Err(message), _) => ui.complain(Tone::Bad, format!("{place}: {message}"))?,
            (Ok(object), problem) => {
                let label = manifests::label(&Identity::of(object));
                if let Some(problem) = problem {
                    let item = Item { label, place };
                    batch::wrong(ui, &item, "not valid", &problem.errors)?;
                } else if !quiet {
                    ui.line(Tone::Plain, format!("{label} valid"))?;
                }
            }
        }
    }
    Ok(wrong)
}

/// How many documents are wrong by what the running tmm knows.
fn online(
    global: &Global,
    documents: Vec<Document>,
    quiet: bool,
    ui: &mut Ui<'_>,
) -> Result<usize, Error> {
    let (items, bad) = batch::objects(documents, ui)?;
    if items.is_empty() {
        return Ok(bad);
    }
    let mut link = Link::open(global)?;
    let (items, requests): (Vec<Item>, Vec<Request>) = items
        .into_iter()
        .map(|(item, object)| (item, Request::Validate { object }))
        .unzip();
    let mut wrong = bad;
    batch::exchange(
        &mut link,
        requests,
        ui,
        |ui, index, answer: Answer| {
            let Some(item) = items.get(index) else {
                return Ok(());
            };
            if !answer.accepted {
                wrong += 1;
                return batch::wrong(ui, item, "not valid", &answer.errors);
            }
            if quiet {
                return Ok(());
            }
            ui.line(Tone::Plain, format!("{} valid", item.label))
        },
        |_, _| {},
    )?;
    Ok(wrong)
}
