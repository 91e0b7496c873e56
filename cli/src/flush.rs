//! `tmmctl flush`.

use config::client::{Flush, Request, Response};
use serde_json::{Map, json};

use crate::args::{FlushArgs, Global};
use crate::error::Error;
use crate::link::Link;
use crate::ui::{Tone, Ui};
use crate::{OK, units};

pub fn run(global: &Global, args: &FlushArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let mut link = Link::open(global)?;
    let mut filter = Map::new();
    for (name, value) in args.filter.named() {
        if let Some(value) = value {
            filter.insert(name.to_owned(), value.clone().into());
        }
    }
    link.send(&Request::Flush(Flush { filter }))?;
    match link.receive()? {
        Response::End { count, .. } if args.json => {
            ui.write(format!("{}\n", json!({"ended": count})).as_bytes())?;
        }
        Response::End { count, .. } => {
            let ended = units::plural(count, "connection");
            ui.line(Tone::Plain, format!("{ended} ended"))?;
        }
        other => return Err(link.unexpected(other)),
    }
    Ok(OK)
}
