//! Tables for people.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Row, Table};

use crate::error::Error;
use crate::ui::{Tone, Ui, clean};

/// A column.
#[derive(Debug, Clone)]
pub struct Heading {
    pub title: String,
    /// Numbers stand under each other.
    pub right: bool,
}

/// Prints rows under headings; a row is painted as a whole. No border, two blanks between columns:
/// what `awk` and eyes both take.
pub fn print(
    ui: &mut Ui<'_>,
    headings: &[Heading],
    rows: Vec<(Tone, Vec<String>)>,
) -> Result<(), Error> {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings.iter().map(|heading| heading.title.as_str()));
    let mut tones = vec![Tone::Strong];
    for (tone, cells) in rows {
        tones.push(tone);
        // One row is one line, whatever a value contains.
        let cells = cells.iter().map(|text| Cell::new(clean(text)));
        table.add_row(Row::from(cells.collect::<Vec<_>>()));
    }
    let last = headings.len().saturating_sub(1);
    for (index, (column, heading)) in table.column_iter_mut().zip(headings).enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        if heading.right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (line, tone) in table.lines().zip(tones) {
        ui.line(tone, line.trim_end())?;
    }
    Ok(())
}
