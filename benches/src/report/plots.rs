//! The figures as plots (SVG).

use std::path::Path;

use plotters::prelude::*;

use super::Results;
use crate::row::size_name;
use crate::stats::float;

/// A plot that was drawn.
pub(super) struct Plot {
    /// The name of its file.
    pub(super) file: String,
    /// What it shows.
    pub(super) title: &'static str,
}

/// A line: its name, section and case.
type Line = (&'static str, &'static str, String);

/// Colours that are told apart by most (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<Plot>, String> {
    let net = |case: &str| format!("{case}/net");
    let plots: [(&str, &'static str, &str, &str, Vec<Line>); 5] = [
        (
            "established.svg",
            "Established flows",
            "flows",
            "ns per packet",
            vec![
                ("2 MiB pages", "pipeline", net("established/tcp4")),
                (
                    "4 KiB pages",
                    "pipeline",
                    net("established/tcp4-small-pages"),
                ),
                ("IPv6", "pipeline", net("established/tcp6")),
            ],
        ),
        (
            "table-hit.svg",
            "Flow tables: look-up, found",
            "flows",
            "ns per key",
            tables("hit"),
        ),
        (
            "table-insert.svg",
            "Flow tables: entering",
            "flows",
            "ns per flow",
            tables("insert"),
        ),
        (
            "virtual-servers.svg",
            "Virtual servers",
            "virtual servers",
            "ns per packet",
            vec![
                ("established", "scale", net("virtual-servers/established")),
                ("new flow", "scale", net("virtual-servers/new-flow")),
            ],
        ),
        (
            "members.svg",
            "Members of a pool",
            "members",
            "ns per packet",
            vec![
                ("established", "scale", net("members/established")),
                ("new flow", "scale", net("members/new-flow")),
            ],
        ),
    ];
    let mut drawn = Vec::new();
    for (file, title, x, y, lines) in plots {
        let series: Vec<(&str, Vec<(f64, f64)>)> = lines
            .iter()
            .map(|(name, section, case)| (*name, points(results, section, case)))
            .filter(|(_, points)| points.len() > 1)
            .collect();
        if series.is_empty() {
            continue;
        }
        one(&folder.join(file), title, x, y, &series)
            .map_err(|error| format!("{file}: {error}"))?;
        drawn.push(Plot {
            file: file.to_owned(),
            title,
        });
    }
    Ok(drawn)
}

fn tables(kind: &str) -> Vec<Line> {
    ["tmm", "hashbrown", "rte_hash-40", "rte_hash-16"]
        .map(|table| (table, "table", format!("{table}/{kind}")))
        .to_vec()
}

fn points(results: &Results, section: &str, case: &str) -> Vec<(f64, f64)> {
    results
        .sizes(section, case)
        .into_iter()
        .filter_map(|size| Some((float(size), results.get(section, case, size)?.median)))
        .collect()
}

fn one(
    path: &Path,
    title: &str,
    x: &str,
    y: &str,
    series: &[(&str, Vec<(f64, f64)>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let low = all().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let high = all().map(|(x, _)| x).fold(1.0, f64::max);
    let top = all().map(|(_, y)| y).fold(1.0, f64::max);
    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((low..high * 1.1).log_scale(), 0.0..top * 1.15)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .light_line_style(WHITE)
        .x_label_formatter(&|value| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a tick of an axis that begins above zero"
            )]
            let size = value.round() as u64;
            size_name(size)
        })
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(
            points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
