//! A report as pictures: rates over time, loss over rates, and the tail of the latency.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use super::report::Report;

const SIZE: (u32, u32) = (960, 540);
/// Colours that are told apart without looking at hue alone.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x5a, 0xa6),
    RGBColor(0xd9, 0x6b, 0x0b),
    RGBColor(0x2b, 0x8a, 0x3e),
    RGBColor(0xa6, 0x1e, 0x4d),
    RGBColor(0x5f, 0x3d, 0xc4),
    RGBColor(0x49, 0x50, 0x57),
];

/// A line of a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Writes `rate.svg`, `loss.svg` and `latency.svg` into a directory, which is made if it is missing;
/// what there is nothing to show of is left out. Returns the files.
///
/// Errors: a file that cannot be written.
pub fn write(report: &Report, directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    std::fs::create_dir_all(directory)?;
    let mut written = Vec::new();
    let (over_time, loss, latency) = (rates(report), losses(report), latencies(report));
    let unit = if report
        .runs
        .iter()
        .flat_map(|r| &r.trials)
        .any(|t| t.connections)
    {
        "thousand connections per second"
    } else {
        "thousand frames per second"
    };
    let pictures = [
        ("rate.svg", "Rate over time", "seconds", unit, over_time),
        ("loss.svg", "Loss over rate", unit, "percent lost", loss),
        (
            "latency.svg",
            "Latency",
            "quantile",
            "microseconds",
            latency,
        ),
    ];
    for (name, title, x, y, series) in pictures {
        if series.iter().any(|s| !s.points.is_empty()) {
            let path = directory.join(name);
            let picture = Picture {
                title,
                x,
                y,
                logarithmic: name == "latency.svg",
            };
            picture.draw(&path, &series)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// Sent and received per second over the whole test, trials one behind the other.
fn rates(report: &Report) -> Vec<Series> {
    let mut sent = Series {
        name: "sent".to_owned(),
        ..Series::default()
    };
    let mut received = Series {
        name: "received".to_owned(),
        ..Series::default()
    };
    let mut begin = 0.0;
    for trial in report.runs.iter().flat_map(|run| &run.trials) {
        for sample in &trial.samples {
            let at = begin + sample.seconds;
            sent.points.push((at, sample.sent_per_second / 1e3));
            received.points.push((at, sample.received_per_second / 1e3));
        }
        begin += trial.seconds;
    }
    vec![sent, received]
}

/// Loss over the rate sent, a series per frame size.
fn losses(report: &Report) -> Vec<Series> {
    let series = report.runs.iter().map(|run| {
        let mut points: Vec<(f64, f64)> = run
            .trials
            .iter()
            .map(|t| (t.sent_per_second / 1e3, t.loss * 100.0))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: run.size.clone(),
            points,
        }
    });
    series.collect()
}

/// The tail of the latency of trials without loss, at most as many as there are colours.
fn latencies(report: &Report) -> Vec<Series> {
    let mut all = Vec::new();
    for run in &report.runs {
        let lossless = run.trials.iter().filter(|t| t.lost == 0);
        for trial in lossless {
            let nines = |quantile: f64| -(1.0 - quantile).log10();
            all.push(Series {
                name: format!(
                    "{} {} {:.0} k/s",
                    run.size,
                    trial.phase,
                    trial.sent_per_second / 1e3
                ),
                points: trial
                    .latency_curve
                    .iter()
                    .map(|(quantile, nanos)| (nines(*quantile), super::units::float(*nanos) / 1e3))
                    .collect(),
            });
        }
    }
    // The last ones are the ones that were searched for.
    let surplus = all.len().saturating_sub(COLORS.len());
    all.split_off(surplus)
}

/// How a number on an axis is written.
type Label = fn(&f64) -> String;

/// What stands around the lines.
struct Picture {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Powers of ten upwards, nines of a quantile to the right.
    logarithmic: bool,
}

/// A quantile by its nines: 0 is the fastest, 1 is p90, 2 is p99.
fn quantile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    format!("p{}", (percent * 1e6).round() / 1e6)
}

/// A power of ten.
fn power(exponent: f64) -> String {
    let value = 10f64.powf(exponent);
    if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

impl Picture {
    fn draw(&self, path: &Path, series: &[Series]) -> Result<(), Box<dyn Error>> {
        let scaled: Vec<Series> = series.iter().map(|s| self.scale(s)).collect();
        let points = || scaled.iter().flat_map(|s| &s.points);
        let left = points().map(|p| p.0).fold(f64::INFINITY, f64::min).min(0.0);
        let right = points().map(|p| p.0).fold(left, f64::max);
        let top = points().map(|p| p.1).fold(0.0, f64::max);
        let bottom = if self.logarithmic {
            points().map(|p| p.1).fold(top, f64::min).floor()
        } else {
            0.0
        };
        // An axis must have a length.
        let right = if right > left { right } else { left + 1.0 };
        let top = if self.logarithmic {
            top.floor() + 1.0
        } else if top > 0.0 {
            top * 1.05
        } else {
            1.0
        };
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(80)
            .build_cartesian_2d(left..right, bottom..top)?;
        let plain = |value: &f64| format!("{}", (value * 1e4).round() / 1e4);
        let (across, up): (Label, Label) = if self.logarithmic {
            (|x| quantile(*x), |y| power(*y))
        } else {
            (plain, plain)
        };
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&across)
            .y_label_formatter(&up)
            .light_line_style(WHITE)
            .draw()?;
        for (series, color) in scaled.iter().zip(COLORS.iter().cycle()) {
            let color = *color;
            chart
                .draw_series(LineSeries::new(
                    series.points.iter().copied(),
                    color.stroke_width(2),
                ))?
                .label(series.name.clone())
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
                });
            // Few points are measurements each; many are a curve.
            if series.points.len() <= 40 {
                let dots = series
                    .points
                    .iter()
                    .map(|p| Circle::new(*p, 3, color.filled()));
                chart.draw_series(dots)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(0xce, 0xd4, 0xda))
            .draw()?;
        area.present()?;
        Ok(())
    }

    fn scale(&self, series: &Series) -> Series {
        let mut scaled = series.clone();
        if self.logarithmic {
            for point in &mut scaled.points {
                point.1 = point.1.max(0.01).log10();
            }
        }
        scaled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_labelled_as_people_say_it() {
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0].map(quantile),
            ["p0", "p90", "p99", "p99.9"]
        );
        assert_eq!(
            [-1.0, 0.0, 1.0, 3.0].map(power),
            ["0.1", "1.0", "10", "1000"]
        );
    }
}
