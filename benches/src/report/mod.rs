//! The report: what was measured, on what, and what it means for the goals.

mod goals;
pub mod machine;
mod plots;
mod tables;

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::row::Row;
use crate::stats::Summary;
use machine::Machine;

/// Everything that one run found out.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where it ran.
    pub machine: Machine,
    /// Sections that failed, and why.
    pub failures: Vec<(String, String)>,
    /// How long it took, seconds.
    pub seconds: u64,
    /// Time the host took from this machine meanwhile, milliseconds.
    pub stolen_ms: u64,
    /// Whether it was only a look.
    pub quick: bool,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Results {
    /// A figure.
    pub fn get(&self, section: &str, case: &str, size: u64) -> Option<Summary> {
        self.rows
            .iter()
            .find(|row| row.section == section && row.case == case && row.size == size)
            .map(|row| row.summary)
    }

    /// The sizes that a case was measured at, ascending.
    pub fn sizes(&self, section: &str, case: &str) -> Vec<u64> {
        let mut sizes: Vec<u64> = self
            .rows
            .iter()
            .filter(|row| row.section == section && row.case == case)
            .map(|row| row.size)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Whether anything was measured in a section.
    pub fn has(&self, section: &str) -> bool {
        self.rows.iter().any(|row| row.section == section)
    }
}

/// Writes `report.md`, `results.json` and the plots into `folder`.
///
/// Errors: what cannot be written.
pub fn write(results: &Results, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let json = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    put("results.json", &json)?;
    let plots = plots::draw(results, folder)?;
    put("report.md", &markdown(results, &plots))
}

fn markdown(results: &Results, plots: &[plots::Plot]) -> String {
    let mut out = String::from("# What tmm costs\n\n");
    let _ = writeln!(
        out,
        "Nanoseconds are CPU time of the thread, medians, with the 5th and the 95th percentile of the \
         samples in brackets. How each figure is taken, and what it leaves out: `benches/README.md`.\n"
    );
    if results.quick {
        out.push_str("**A quick run: few samples, few flows. Not for comparison.**\n\n");
    }
    results.machine.write(&mut out);
    let _ = writeln!(
        out,
        "\nTook {} s; the host took {} ms of CPU from the machine meanwhile.\n",
        results.seconds, results.stolen_ms
    );
    for (section, why) in &results.failures {
        let _ = writeln!(out, "**Section {section} failed:** {why}\n");
    }
    goals::write(results, &mut out);
    tables::write(results, &mut out);
    if !plots.is_empty() {
        out.push_str("## Plots\n\n");
        for plot in plots {
            let _ = writeln!(out, "![{}]({})\n", plot.title, plot.file);
        }
    }
    out
}

/// A figure with its spread: `64.7 (60.1–71.0)`.
fn spread(summary: Summary) -> String {
    if summary.samples == 1 {
        number(summary.median)
    } else {
        format!(
            "{} ({}–{})",
            number(summary.median),
            number(summary.p5),
            number(summary.p95)
        )
    }
}

/// A number with as many digits as mean something.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rows: Vec<Row>) -> Results {
        Results {
            machine: Machine::default(),
            failures: vec![("dpdk".to_owned(), "no testpmd".to_owned())],
            seconds: 1,
            stolen_ms: 0,
            quick: true,
            rows,
        }
    }

    #[test]
    fn a_report_of_any_part_of_the_figures_is_written_and_says_what_failed() {
        let summary = Summary {
            median: 64.66,
            p5: 60.0,
            p95: 171.2,
            samples: 31,
        };
        let rows = [1_000, 65_536, 1_000_000]
            .into_iter()
            .map(|size| {
                Row::new(
                    "pipeline",
                    "established/tcp4/net",
                    size,
                    "ns per packet",
                    summary,
                )
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        write(&results(rows), folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
        assert!(text.contains("64.7 (60.0–171)"), "{text}");
        assert!(text.contains("Section dpdk failed"), "{text}");
        assert!(text.contains("A quick run"), "{text}");
        let plot = std::fs::read_to_string(folder.path().join("established.svg")).unwrap();
        assert!(plot.contains("<svg"));
    }

    #[test]
    fn a_report_of_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        write(&results(Vec::new()), folder.path()).unwrap();
        assert!(folder.path().join("results.json").exists());
    }
}
