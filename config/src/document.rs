//! Objects in files: YAML or JSON, several documents in one, lists, whole directories.
//!
//! Reading never stops at the first bad document: each one is either an object or what is wrong
//! with its text, with the place it came from.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::error::FieldError;
use crate::meta::ObjectKey;
use crate::resource::{self, Identity};
use crate::store::{Limits, Owner, Store};
use crate::watch::{Item, Splitter};

/// Largest file in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Owner of the objects that come from files.
pub const FILE_FEEDER: &str = "file";

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path of the file, or `-` for a stream.
    pub name: String,
    /// Position of the document in it, from 1; empty documents do not count.
    pub document: usize,
    /// Position in a `List`, from 0.
    pub item: Option<usize>,
    /// The line the document begins in, from 1.
    pub line: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.line)?;
        match self.item {
            Some(item) => write!(f, " (document {}, item {item})", self.document),
            None => write!(f, " (document {})", self.document),
        }
    }
}

/// One object as it was found, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it came from.
    pub source: Source,
    /// The object as JSON, or what is wrong with the text.
    pub content: Result<Value, String>,
}

/// Why a file or a directory could not be read at all.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says so.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was read.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Larger than a configuration can be.
    #[error("{path} is larger than {} MiB", MAX_FILE >> 20)]
    TooLarge {
        /// What was read.
        path: String,
    },
    /// YAML and JSON are UTF-8 here.
    #[error("{path} is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// What was read.
        path: String,
        /// Where the first bad byte is, from 0.
        at: usize,
    },
    /// A directory without any file of a known name.
    #[error("{path} has no .yaml, .yml or .json file")]
    EmptyDirectory {
        /// The directory.
        path: String,
    },
}

/// The documents of a file, or of the `.yaml`, `.yml` and `.json` files of a directory by name.
///
/// Subdirectories are not looked into.
pub fn read_path(path: &Path) -> Result<Vec<Document>, ReadError> {
    let mut documents = Vec::new();
    for file in &files(path)? {
        documents.extend(read_file(file)?);
    }
    Ok(documents)
}

/// The files that [`read_path`] reads, in its order, so that one bad file need not hide the others.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let name = path.display().to_string();
    let io = |source| ReadError::Io {
        path: name.clone(),
        source,
    };
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let known = file
            .extension()
            .is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
        if known && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(ReadError::EmptyDirectory { path: name });
    }
    files.sort_unstable();
    Ok(files)
}

/// The documents of one file, which is no directory.
pub fn read_file(path: &Path) -> Result<Vec<Document>, ReadError> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read_from(&name, file),
        Err(source) => Err(ReadError::Io { path: name, source }),
    }
}

/// The documents of a stream; `name` stands in their source.
pub fn read_from(name: &str, reader: impl Read) -> Result<Vec<Document>, ReadError> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_FILE + 1).read_to_end(&mut bytes);
    let size = read.map_err(|source| ReadError::Io {
        path: name.to_owned(),
        source,
    })?;
    if u64::try_from(size).is_ok_and(|size| size > MAX_FILE) {
        return Err(ReadError::TooLarge {
            path: name.to_owned(),
        });
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(read_text(name, text)),
        Err(error) => Err(ReadError::NotUtf8 {
            path: name.to_owned(),
            at: error.valid_up_to(),
        }),
    }
}

/// The documents of a text.
pub fn read_text(name: &str, text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let texts = match text.trim_start().chars().next() {
        // JSON values may follow each other without `---`; flow YAML looks the same at first.
        Some('{' | '[') => json_values(text).unwrap_or_else(|| yaml_documents(text)),
        _ => yaml_documents(text),
    };
    let mut documents = Vec::new();
    for (index, (line, content)) in texts.into_iter().enumerate() {
        let source = Source {
            name: name.to_owned(),
            document: index + 1,
            item: None,
            line,
        };
        match content.map(|value| (is_list(&value), resource::expand(value))) {
            Err(message) => documents.push(Document {
                source,
                content: Err(message),
            }),
            Ok((_, Err(errors))) => documents.push(Document {
                source,
                content: Err(sentence(&errors)),
            }),
            Ok((list, Ok(values))) => {
                for (item, value) in values.into_iter().enumerate() {
                    documents.push(Document {
                        source: Source {
                            item: list.then_some(item),
                            ..source.clone()
                        },
                        content: Ok(value),
                    });
                }
            }
        }
    }
    documents
}

fn is_list(value: &Value) -> bool {
    value.get("items").is_some_and(Value::is_array)
}

fn sentence(errors: &[FieldError]) -> String {
    let all: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    all.join("; ")
}

/// A document's first line and its value, or what is wrong with its text.
type Text = (u64, Result<Value, String>);

/// All values of a text, or nothing if part of it is not JSON or too much.
fn json_values(text: &str) -> Option<Vec<Text>> {
    let mut values = Some(Vec::new());
    let mut take = |item: Item<'_>| {
        let value = match item {
            Item::Garbage { .. } => None,
            Item::Value { bytes, line } => serde_json::from_slice(bytes)
                .ok()
                .map(|value| (line, Ok(value))),
        };
        match (&mut values, value) {
            (Some(values), Some(value)) => values.push(value),
            _ => values = None,
        }
        true
    };
    let mut splitter = Splitter::new(text.len());
    splitter.push(text.as_bytes(), &mut take);
    splitter.finish(&mut take);
    values
}

/// The documents between `---` lines, each parsed for itself so that one bad document does not
/// hide the others; comments alone are no document.
fn yaml_documents(text: &str) -> Vec<Text> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut at = 0;
    for (line, row) in (1..).zip(text.split_inclusive('\n')) {
        let bare = row.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            documents.extend(yaml_document(text.get(start..at), start_line));
            // What follows on the marker's own line belongs to the document.
            start = at + "---".len();
            start_line = line;
        }
        at += row.len();
    }
    documents.extend(yaml_document(text.get(start..), start_line));
    documents
}

fn yaml_document(text: Option<&str>, line: u64) -> Option<Text> {
    let text = text.unwrap_or_default();
    let means = |row: &str| !(row.is_empty() || row.starts_with(['#', '%']) || row == "...");
    let leading = text.lines().position(|row| means(row.trim()))?;
    let first = line + u64::try_from(leading).unwrap_or(0);
    let options = serde_saphyr::options! { with_snippet: false };
    let value = match serde_saphyr::from_str_with_options::<Value>(text, options) {
        Ok(Value::Null) => return None,
        Ok(value) => Ok(value),
        Err(error) => Err(describe(&error, line)),
    };
    Some((first, value))
}

/// The parser's message, with the line counted in the file.
fn describe(error: &serde_saphyr::Error, first: u64) -> String {
    let what = too_much(error).unwrap_or_else(|| {
        let text = error.without_snippet().to_string();
        let text = text.lines().next().unwrap_or_default();
        let text = text.split(" at line ").next().unwrap_or_default();
        format!("not YAML: {text}")
    });
    match error.location() {
        Some(place) => format!(
            "line {} column {}: {what}",
            first + place.line().saturating_sub(1),
            place.column()
        ),
        None => what,
    }
}

/// Which bound of the parser a document goes beyond, in words.
fn too_much(error: &serde_saphyr::Error) -> Option<String> {
    use serde_saphyr::budget::BudgetBreach as Breach;
    let breach = match error.without_snippet() {
        serde_saphyr::Error::Budget { breach, .. } => breach,
        serde_saphyr::Error::AliasError { error, .. } => return too_much(error),
        _ => return None,
    };
    // Documents are parsed with the parser's own bounds.
    let most = serde_saphyr::Budget::default();
    let (what, most) = match breach {
        Breach::Depth { .. } => ("levels of nesting", most.max_depth),
        Breach::Nodes { .. } => ("values and keys", most.max_nodes),
        Breach::Events { .. } => ("YAML events", most.max_events),
        Breach::Aliases { .. } => ("aliases", most.max_aliases),
        Breach::Anchors { .. } => ("anchors", most.max_anchors),
        Breach::MergeKeys { .. } => ("merge keys", most.max_merge_keys),
        Breach::ScalarBytes { .. } => ("bytes of text", most.max_total_scalar_bytes),
        Breach::RecordedAnchorEvents { .. } => {
            ("events behind anchors", most.max_recorded_anchor_events)
        }
        Breach::RecordedAnchorBytes { .. } => {
            ("bytes behind anchors", most.max_recorded_anchor_bytes)
        }
        Breach::AliasAnchorRatio { aliases, anchors } => {
            return Some(format!(
                "{aliases} aliases of {anchors} anchors; {} aliases for each anchor is the most a \
                 document may have",
                most.alias_anchor_ratio_multiplier
            ));
        }
        _ => return Some("too large or too deeply nested to be read".to_owned()),
    };
    Some(format!(
        "too many {what}; {most} is the most a document may have"
    ))
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub source: Source,
    /// Which object, as far as it could be told.
    pub identity: Identity,
    /// What.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for Problem {
    /// One line per error: `web.yaml:3 (document 1) F5SPKVlan default/ext: spec.tag: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.source)?;
            if let (Some(kind), Some(name)) = (&self.identity.kind, &self.identity.name) {
                let namespace = self.identity.namespace.as_deref().unwrap_or_default();
                write!(f, " {kind} {namespace}/{name}")?;
            }
            write!(f, ": {error}")?;
        }
        Ok(())
    }
}

/// Validates documents into a store; whatever is wrong is listed and left out.
///
/// An object that is there twice is a problem too: the first one counts.
pub fn load(documents: &[Document], limits: Limits) -> (Store, Vec<Problem>) {
    let mut store = Store::new(limits);
    let mut problems = Vec::new();
    let mut seen: HashMap<ObjectKey, &Source> = HashMap::new();
    let owner = Owner::fixed(FILE_FEEDER);
    for document in documents {
        let (identity, errors) = match &document.content {
            Err(message) => (
                Identity::default(),
                vec![FieldError::whole(message.clone())],
            ),
            Ok(value) => {
                let identity = Identity::of(value);
                let twice = identity.key().and_then(|key| seen.get(&key));
                let errors = match twice {
                    Some(first) => {
                        let message = format!("the same object is already at {first}");
                        vec![FieldError::new("metadata.name", message)]
                    }
                    None => match store.apply(value, &owner) {
                        Ok((key, _)) => {
                            seen.insert(key, &document.source);
                            continue;
                        }
                        Err(errors) => errors,
                    },
                };
                (identity, errors)
            }
        };
        problems.push(Problem {
            source: document.source.clone(),
            identity,
            errors,
        });
    }
    (store, problems)
}
