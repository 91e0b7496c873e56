//! What `-f` names, as documents.

use std::io::Read;
use std::path::{Path, PathBuf};

use config::document::{self, Document, ReadError};
use config::resource::Identity;

use crate::error::Error;

/// Deepest directory looked into: deeper is a mistake, not a configuration.
const MAX_DEPTH: usize = 32;

/// How standard input is called in errors.
pub const STDIN: &str = "stdin";

/// The documents of all files, in the order in which they are named.
///
/// Errors: a file that cannot be read, and nothing to read at all. What is wrong inside a file is
/// in its documents.
pub fn load(
    files: &[PathBuf],
    recursive: bool,
    stdin: &mut dyn Read,
) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    let mut stdin = Some(stdin);
    for file in files {
        if file.as_os_str() == "-" {
            let Some(stdin) = stdin.take() else {
                return Err(Error::Usage("standard input is named twice".to_owned()));
            };
            documents.extend(document::read_from(STDIN, stdin)?);
        } else if recursive && file.is_dir() {
            let before = documents.len();
            descend(file, MAX_DEPTH, &mut documents)?;
            if documents.len() == before {
                let path = file.display().to_string();
                return Err(ReadError::EmptyDirectory { path }.into());
            }
        } else {
            documents.extend(document::read_path(file)?);
        }
    }
    if documents.is_empty() {
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        return Err(Error::Usage(format!("no object in {}", names.join(", "))));
    }
    Ok(documents)
}

/// Files of a directory first, then its subdirectories; links to directories are not followed, so
/// there is no going in circles.
fn descend(directory: &Path, depth: usize, documents: &mut Vec<Document>) -> Result<(), Error> {
    let io = |source| ReadError::Io {
        path: directory.display().to_string(),
        source,
    };
    if depth == 0 {
        let path = directory.display();
        return Err(Error::Usage(format!(
            "{path}: more than {MAX_DEPTH} directories deep"
        )));
    }
    match document::read_path(directory) {
        Ok(found) => documents.extend(found),
        Err(ReadError::EmptyDirectory { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            below.push(entry.path());
        }
    }
    below.sort_unstable();
    for directory in &below {
        descend(directory, depth - 1, documents)?;
    }
    Ok(())
}

/// What an object is called in every line about it: `f5spkvlan/default/external`.
pub fn label(identity: &Identity) -> String {
    name(
        identity.kind.as_deref().unwrap_or("object"),
        identity.namespace.as_deref().unwrap_or("default"),
        identity.name.as_deref().unwrap_or("(no name)"),
    )
}

/// `f5spkvlan/default/external`.
pub fn name(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.to_lowercase())
}
