//! The table in `docs/troubleshooting.md` and the messages of the program say the same.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Words shorter than this say nothing.
const TELLING: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a crate, without its tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() {
            sources(&path, found);
        } else if let Some(stem) = name.strip_suffix(".rs")
            && !stem.ends_with("tests")
        {
            found.push(path);
        }
    }
}

fn program() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for part in ["dataplane/src", "dpdk/src"] {
        sources(&root().join(part), &mut files);
    }
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
        text[..end].to_owned()
    };
    files
        .iter()
        .map(|path| (path.clone(), code(path)))
        .collect()
}

/// The string literals from `at` to the end of what its first bracket opens.
fn literals(code: &str, at: usize) -> Vec<String> {
    let (mut found, mut depth) = (Vec::new(), 0);
    let mut chars = code[at..].chars();
    while let Some(c) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' if depth <= 1 => break,
            ')' => depth -= 1,
            '"' => found.push(literal(&mut chars)),
            _ => {}
        }
    }
    found
}

/// A string literal, from behind its first quotation mark; what is filled in is `…`.
fn literal(chars: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                text.push('…');
            }
            '\\' => match chars.next() {
                // A line that goes on in the next one.
                Some('\n') => {
                    let rest = chars.as_str().trim_start();
                    *chars = rest.chars();
                }
                Some(c) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

/// What is always the same in a message.
fn fixed(message: &str) -> Vec<&str> {
    message
        .split('…')
        .map(|part| part.trim().trim_matches(|c| "\"():;.,".contains(c)).trim())
        .filter(|part| part.len() >= TELLING)
        .collect()
}

/// What the first column of the tables quotes.
fn quoted() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let firsts = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    firsts
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn has_row(message: &str, rows: &[String]) -> bool {
    fixed(message).iter().any(|part| {
        let same = |row: &str| part.contains(row) || row.contains(part);
        rows.iter().any(|row| fixed(row).into_iter().any(same))
    })
}

/// Messages behind `mark` that have no row.
fn without_row(mark: &str, rows: &[String]) -> (usize, Vec<String>) {
    let (mut seen, mut missing) = (0, Vec::new());
    for (path, code) in program() {
        for (at, _) in code.match_indices(mark) {
            let all = literals(&code, at);
            let Some(message) = all.iter().max_by_key(|text| text.len()) else {
                continue;
            };
            // One that is put together elsewhere.
            if fixed(message).is_empty() {
                continue;
            }
            seen += 1;
            if !has_row(message, rows) {
                missing.push(format!("{}: {message}", path.display()));
            }
        }
    }
    (seen, missing)
}

#[test]
fn every_warning_has_its_row() {
    let rows = quoted();
    for (mark, least) in [("warn!(", 30), ("error!(", 2), ("warnings.push(", 5)] {
        let (seen, missing) = without_row(mark, &rows);
        assert!(seen >= least, "{mark}: only {seen} were found");
        assert!(missing.is_empty(), "{mark}\n{}", missing.join("\n"));
    }
}

#[test]
fn every_error_of_a_device_has_its_row() {
    let rows = quoted();
    let (seen, missing) = without_row("#[error(", &rows);
    assert!(seen >= 30, "only {seen} were found");
    // Wrong usage, told beside the argument; errors of `tmm replay`; what no user of tmm can cause.
    let elsewhere = ["spec.rs", "replay/args.rs", "mbuf.rs", "compile/mod.rs"];
    let missing: Vec<&String> = missing
        .iter()
        .filter(|m| !elsewhere.iter().any(|file| m.contains(file)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
