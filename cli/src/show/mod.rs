//! `tmmctl show`.

mod columns;

use std::time::Duration;

use clap::builder::PossibleValue;
use config::client::{Request, Response, Show};
use serde_json::{Map, Value, json};

use crate::args::{Global, ShowArgs};
use crate::error::Error;
use crate::link::Link;
use crate::table::{self, Heading};
use crate::ui::{Tone, Ui};
use crate::{OK, units};
use columns::{Column, TABLES, Unit};

type Row = Map<String, Value>;

pub fn run(global: &Global, args: &ShowArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let Some(table) = &args.table else {
        return list_tables(args, ui);
    };
    let mut link = Link::open(global)?;
    let request = Request::Show(request(table, args));
    let Some(every) = args.watch else {
        once(&mut link, &request, table, args, ui)?;
        return Ok(OK);
    };
    loop {
        if ui.screen && !args.json {
            // Home and clear: what was there before is not left between the new lines.
            ui.write(b"\x1b[H\x1b[2J")?;
            let every = units::time(every);
            ui.line(Tone::Strong, format!("{table}, every {every}"))?;
        }
        once(&mut link, &request, table, args, ui)?;
        if !ui.screen && !args.json && !args.count {
            ui.write(b"\n")?;
        }
        ui.flush()?;
        pause(every);
    }
}

/// The tables this release knows, for help and completion.
pub fn tables() -> Vec<PossibleValue> {
    let all = TABLES.iter();
    all.map(|known| PossibleValue::new(known.name).help(known.about))
        .collect()
}

fn pause(every: Duration) {
    std::thread::sleep(every);
}

fn list_tables(args: &ShowArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    if args.json {
        let all: Vec<Value> = TABLES
            .iter()
            .map(|known| json!({"table": known.name, "about": known.about}))
            .collect();
        ui.write(format!("{}\n", Value::Array(all)).as_bytes())?;
        return Ok(OK);
    }
    let heading = |title: &str| Heading {
        title: title.to_owned(),
        right: false,
    };
    let rows = TABLES.iter().map(|known| {
        let cells = vec![known.name.to_owned(), known.about.to_owned()];
        (Tone::Plain, cells)
    });
    table::print(ui, &[heading("TABLE"), heading("SHOWS")], rows.collect())?;
    Ok(OK)
}

fn request(table: &str, args: &ShowArgs) -> Show {
    let mut filter = Row::new();
    let named = [
        ("client", &args.client),
        ("member", &args.member),
        ("virtualServer", &args.virtual_server),
        ("state", &args.state),
        ("protocol", &args.protocol),
        ("port", &args.port),
        ("destination", &args.destination),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            filter.insert(name.to_owned(), value.clone().into());
        }
    }
    for (name, value) in &args.filters {
        filter.insert(name.clone(), value.clone().into());
    }
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = match limit {
        // Rows of zeros are left out here, so they must not count there.
        _ if hides_zeros(table, args) => None,
        // tmm limits what it tells of connections unless it is told otherwise.
        None if args.count => Some(usize::MAX >> 1),
        limit => limit,
    };
    Show {
        table: table.to_owned(),
        filter,
        limit,
    }
}

fn hides_zeros(table: &str, args: &ShowArgs) -> bool {
    table == "drops" && !args.all && !args.json
}

fn once(
    link: &mut Link,
    request: &Request,
    table: &str,
    args: &ShowArgs,
    ui: &mut Ui<'_>,
) -> Result<(), Error> {
    link.send(request)?;
    if args.count {
        let (count, _) = each_row(link, |_| Ok(()))?;
        return if args.json {
            ui.write(format!("{}\n", json!({"count": count})).as_bytes())
        } else {
            ui.line(Tone::Plain, count)
        };
    }
    let more = if args.json {
        print_json(link, ui)?
    } else {
        print_table(link, table, args, ui)?
    };
    if let (Some(count), None) = (more, args.limit) {
        let count = units::plural(count, "row");
        ui.complain(
            Tone::Warn,
            format!("there are more than these {count}: --limit ROWS shows more, a filter fewer"),
        )?;
    }
    Ok(())
}

/// Hands on each row. Returns how many there were, and whether tmm left some out.
fn each_row(
    link: &mut Link,
    mut take: impl FnMut(Row) -> Result<(), Error>,
) -> Result<(usize, bool), Error> {
    let mut count = 0;
    loop {
        match link.receive()? {
            Response::Row { row, .. } => {
                count += 1;
                take(row)?;
            }
            Response::End { more, .. } => return Ok((count, more.is_some())),
            other => return Err(link.unexpected(other)),
        }
    }
}

/// One array, a row per line, written as it comes: a million connections need no memory.
fn print_json(link: &mut Link, ui: &mut Ui<'_>) -> Result<Option<usize>, Error> {
    let mut before = "[";
    let (count, more) = each_row(link, |row| {
        ui.write(format!("{before}{}", Value::Object(row)).as_bytes())?;
        before = ",\n ";
        Ok(())
    })?;
    ui.write(if count == 0 { b"[]\n" } else { b"]\n" })?;
    Ok(more.then_some(count))
}

fn print_table(
    link: &mut Link,
    table: &str,
    args: &ShowArgs,
    ui: &mut Ui<'_>,
) -> Result<Option<usize>, Error> {
    let mut rows = Vec::new();
    let hide = hides_zeros(table, args);
    let (count, more) = each_row(link, |row| {
        if !(hide && row.get("packets") == Some(&json!(0))) {
            rows.push(row);
        }
        Ok(())
    })?;
    if let (true, Some(limit)) = (hide, args.limit) {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    if rows.is_empty() {
        let filtered = if request(table, args).filter.is_empty() {
            ""
        } else {
            " that match"
        };
        let what = match (hide, count) {
            (true, 1..) => "nothing has been counted yet (--all shows the zeros)".to_owned(),
            _ => format!("no {}{filtered}", table.replace('-', " ")),
        };
        ui.complain(Tone::Plain, what)?;
        return Ok(None);
    }
    let layout = layout(table, &rows, args.wide);
    let headings: Vec<Heading> = layout.iter().map(Shown::heading).collect();
    let rows = rows.iter().map(|row| {
        let cells = layout
            .iter()
            .map(|shown| columns::cell(row.get(&shown.key), shown.unit));
        (columns::tone(row), cells.collect())
    });
    table::print(ui, &headings, rows.collect())?;
    Ok(more.then_some(count))
}

/// A column that is shown.
struct Shown {
    key: String,
    title: String,
    unit: Unit,
}

impl Shown {
    fn heading(&self) -> Heading {
        Heading {
            title: self.title.clone(),
            right: self.unit != Unit::Plain,
        }
    }
}

impl From<&Column> for Shown {
    fn from(column: &Column) -> Self {
        Self {
            key: column.key.to_owned(),
            title: column.title.to_owned(),
            unit: column.unit,
        }
    }
}

/// The known columns that rows have, in their order, then whatever else there is.
fn layout(table: &str, rows: &[Row], wide: bool) -> Vec<Shown> {
    let known = columns::find(table).map_or(&[][..], |known| known.columns);
    let mut shown: Vec<Shown> = known
        .iter()
        .filter(|column| column.is_shown(rows, wide))
        .map(Shown::from)
        .collect();
    for key in rows.iter().flat_map(Row::keys) {
        let is_known = known.iter().any(|column| column.key == key);
        if !is_known && !shown.iter().any(|column| column.key == *key) {
            shown.push(Shown {
                key: key.clone(),
                title: columns::title_of(key),
                unit: columns::unit_of(key),
            });
        }
    }
    shown
}
