//! tmm under test, and what one asks it through `tmmctl`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Failure, Namespace, Process, Result, ensure, eventually, program};

/// A running tmm.
#[derive(Debug)]
pub struct Tmm {
    /// Its process.
    pub process: Process,
    /// From the start of the process until it answered on its socket.
    pub start_time: Duration,
    socket: PathBuf,
}

impl Tmm {
    /// Starts `tmm run` inside `namespace` with these ports and waits until it answers.
    pub fn start(
        namespace: &Namespace,
        ports: &[String],
        more: &[String],
        directory: &Path,
    ) -> Result<Self> {
        let args = ports.iter().map(|port| format!("--port={port}"));
        let args: Vec<String> = args.chain(more.iter().cloned()).collect();
        Self::start_in(namespace, &[], &args, ports.len(), directory)
    }

    /// Starts `tmm run` inside `namespace` with more variables in its environment, such as `A=1`, and waits
    /// until it answers and has `wanted` ports.
    pub fn start_in(
        namespace: &Namespace,
        environment: &[&str],
        more: &[String],
        wanted: usize,
        directory: &Path,
    ) -> Result<Self> {
        let socket = directory.join("config.sock");
        let (tmm, path) = (program("tmm")?, socket.display().to_string());
        let tmm = tmm.display().to_string();
        // It becomes tmm, so the process is tmm's own.
        let mut args = environment.to_vec();
        args.extend([tmm.as_str(), "run", "--config-socket", &path]);
        args.extend(more.iter().map(String::as_str));
        let start = Instant::now();
        let process = namespace.spawn(Path::new("env"), &args, directory.join("tmm.log"))?;
        let mut tmm = Self {
            process,
            start_time: Duration::ZERO,
            socket,
        };
        loop {
            tmm.process
                .check_alive()
                .map_err(|failure| Failure::new(format!("tmm did not start: {failure}")))?;
            match tmm.show("ports") {
                Ok(found) if found.len() == wanted => break,
                other if start.elapsed() > Duration::from_secs(20) => {
                    return Err(Failure::new(format!(
                        "tmm is not ready after 20 s: {:?}; it said:\n{}",
                        other.map(|ports| ports.len()),
                        tmm.process.output()
                    )));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        tmm.start_time = start.elapsed();
        Ok(tmm)
    }

    /// Asks it to stop: it must at once, with exit status 0 and with every buffer back in its pool.
    pub fn stop_cleanly(&mut self) -> Result {
        let (status, time) = self.process.stop()?;
        let said = self.process.output();
        let clean = status.success()
            && time < Duration::from_secs(2)
            && said.contains("every buffer is back in its pool");
        ensure(clean, || {
            format!(
                "tmm stopped with {status} after {} s; it said:\n{said}",
                time.as_secs_f32()
            )
        })
    }

    /// Where its config socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Hands it objects; a refused one is a failure.
    pub fn apply(&self, objects: &[Value]) -> Result {
        self.ctl(&["apply", "-f", "-"], &documents(objects))
            .map(drop)
    }

    /// Takes objects from it.
    pub fn delete(&self, objects: &[Value]) -> Result {
        self.ctl(&["delete", "-f", "-"], &documents(objects))
            .map(drop)
    }

    /// The rows of a table.
    pub fn show(&self, table: &str) -> Result<Vec<Value>> {
        let text = self.ctl(&["show", table, "--json"], "")?;
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("tmmctl show {table} --json: {error} in:\n{text}"))
        })?;
        match value {
            Value::Array(rows) => Ok(rows),
            _ => Err(Failure::new(format!(
                "tmmctl show {table} --json is not an array:\n{text}"
            ))),
        }
    }

    /// The sum of a numeric column of a table.
    pub fn total(&self, table: &str, column: &str) -> Result<u64> {
        let rows = self.show(table)?;
        rows.iter()
            .map(|row| {
                row[column].as_u64().ok_or_else(|| {
                    Failure::new(format!(
                        "tmmctl show {table}: no number \"{column}\" in {row}"
                    ))
                })
            })
            .sum()
    }

    /// Waits until the connection table is empty.
    pub fn await_no_connections(&self, limit: Duration) -> Result {
        eventually(limit, || {
            let left = self.show("connections")?;
            ensure(left.is_empty(), || {
                format!(
                    "{} connections are left, among them {}",
                    left.len(),
                    left.first().unwrap_or(&Value::Null)
                )
            })
        })
    }

    /// Runs `tmmctl` with `input` and returns what it printed; it must succeed.
    pub fn ctl(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(program("tmmctl")?)
            .arg("--socket")
            .arg(&self.socket)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without reading; its exit status tells more than a broken pipe.
            drop(stdin.write_all(input.as_bytes()));
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(output.status.success(), || {
            format!(
                "tmmctl {}: {}\n{text}{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        Ok(text)
    }
}

/// JSON objects as the documents of one YAML stream.
fn documents(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}
