//! `tmmctl health`: what a container's probes ask.

use std::time::Duration;

use config::client::{Request, Response, Show};
use serde_json::{Map, Value, json};

use crate::args::{Global, HealthArgs, Probe};
use crate::error::Error;
use crate::link::Link;
use crate::table::{self, Heading};
use crate::ui::{Tone, Ui};
use crate::{FAILED, OK};

/// How long is waited if nothing else is said: a probe wants an answer, not the best one.
const PATIENCE: Duration = Duration::from_secs(2);

type Row = Map<String, Value>;

pub fn run(global: &Global, args: &HealthArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let checks = match ask(global) {
        Ok(checks) => checks,
        // For whoever reads JSON, no answer is an answer.
        Err(error) if args.json && !matches!(error, Error::Output(_)) => vec![no_answer(&error)],
        Err(error) => return Err(error),
    };
    let live = is(&checks, "live");
    let ready = live && is(&checks, "ready");
    let yes = match args.probe {
        Some(Probe::Live) => live,
        Some(Probe::Ready) => ready,
        None => live && ready,
    };
    if args.json {
        let told: Vec<&Row> = asked_for(&checks, args.probe).collect();
        let text = json!({"live": live, "ready": ready, "checks": told});
        ui.write(format!("{text}\n").as_bytes())?;
    } else {
        print(&checks, args.probe, live, ready, ui)?;
    }
    Ok(if yes { OK } else { FAILED })
}

fn ask(global: &Global) -> Result<Vec<Row>, Error> {
    let mut link = Link::open_within(global, global.timeout.unwrap_or(PATIENCE))?;
    link.send(&Request::Show(Show {
        table: "health".to_owned(),
        ..Show::default()
    }))?;
    let mut checks = Vec::new();
    loop {
        match link.receive()? {
            Response::Row { row, .. } => checks.push(row),
            Response::End { .. } => return Ok(checks),
            other => return Err(link.unexpected(other)),
        }
    }
}

fn no_answer(error: &Error) -> Row {
    let row = json!({
        "probe": "live",
        "check": "tmm",
        "ok": false,
        "reason": "NoAnswer",
        "message": error.to_string(),
    });
    row.as_object().cloned().unwrap_or_default()
}

fn field<'row>(row: &'row Row, name: &str) -> &'row str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_ok(row: &Row) -> bool {
    row.get("ok") == Some(&Value::Bool(true))
}

/// Whether there are checks of a probe, and all of them are as they should be.
fn is(checks: &[Row], probe: &str) -> bool {
    let mut of = checks.iter().filter(|row| field(row, "probe") == probe);
    let mut any = false;
    of.all(|row| {
        any = true;
        is_ok(row)
    }) && any
}

/// What is not live is not ready either, so readiness asks for all checks.
fn asked_for(checks: &[Row], probe: Option<Probe>) -> impl Iterator<Item = &Row> {
    checks
        .iter()
        .filter(move |row| probe != Some(Probe::Live) || field(row, "probe") == "live")
}

/// One line with the answer, and a table of what was looked at.
fn print(
    checks: &[Row],
    probe: Option<Probe>,
    live: bool,
    ready: bool,
    ui: &mut Ui<'_>,
) -> Result<(), Error> {
    let word = |yes: bool, word: &str| {
        if yes {
            word.to_owned()
        } else {
            format!("not {word}")
        }
    };
    let (text, good) = match probe {
        Some(Probe::Live) => (word(live, "live"), live),
        Some(Probe::Ready) => (word(ready, "ready"), ready),
        None => (
            format!("{}, {}", word(live, "live"), word(ready, "ready")),
            ready,
        ),
    };
    ui.line(if good { Tone::Strong } else { Tone::Bad }, text)?;
    let headings = ["PROBE", "CHECK", "STATE", "REASON", "MESSAGE"].map(|title| Heading {
        title: title.to_owned(),
        right: false,
    });
    let rows = asked_for(checks, probe).map(|row| {
        let (tone, state) = if is_ok(row) {
            (Tone::Plain, "ok")
        } else {
            (Tone::Bad, "failed")
        };
        let cells = [
            field(row, "probe"),
            field(row, "check"),
            state,
            field(row, "reason"),
            field(row, "message"),
        ];
        (tone, cells.map(str::to_owned).to_vec())
    });
    table::print(ui, &headings, rows.collect())
}
