//! `tmmctl sync`: a cluster's objects kept in tmm, and tmm's word on them kept in the cluster.
//!
//! ```text
//!             per kind and namespace, over and over             one for all
//! cluster ─▶ kubectl: list, then watch ─▶ source.rs ─▶ tmm
//!                                            │ states, refusals
//!                                            ▼
//! cluster ◀────────── kubectl: replace …/status ◀────────── status.rs
//! ```
//!
//! Each round is a session of its own with tmm: the list, its end (tmm removes what earlier rounds
//! gave and this list lacks), then the watch from the list's resource version on, so that nothing
//! falls between the two. A round ends when the watch does, after ten minutes or when the
//! cluster, the network or tmm goes; failures are followed by a growing delay.

mod kubectl;
mod source;
mod status;

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use config::Kind;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::kubectl::Kubectl;
use self::source::Source;
use self::status::Board;
use crate::OK;
use crate::args::{Global, StatusMode, SyncArgs};
use crate::error::Error;
use crate::ui::{Tone, Ui};

/// How long threads may take to end.
const END: Duration = Duration::from_secs(2);

/// What the threads tell.
pub enum News {
    /// Something to print.
    Line(Tone, String),
    /// A signal to end.
    Stop(i32),
    /// A thread has ended.
    Ended,
}

/// Says to all threads that it is over.
#[derive(Default)]
pub struct Stop {
    set: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until it is over.
    pub fn wait(&self, time: Duration) {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(set, time, |set| !*set);
        drop(waited);
    }
}

/// Where the API server has the objects of a kind.
pub fn path(kind: Kind, namespace: Option<&str>) -> String {
    let version = kind.api_version();
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = kind.plural();
    match namespace {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}

pub fn run(global: &Global, args: &SyncArgs, ui: &mut Ui<'_>) -> Result<u8, Error> {
    let (tell, news) = mpsc::channel();
    watch_signals(tell.clone())?;
    let stop = Arc::new(Stop::default());
    let kubectl = Arc::new(Kubectl::new(args.kubectl.clone()));
    let writes = match args.status {
        StatusMode::Always => true,
        StatusMode::Never => false,
        StatusMode::Auto => args.replica() == 0,
    };
    let board = writes.then(|| Arc::new(Board::default()));
    let namespaces: Vec<Option<String>> = match args.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let mut threads = 0;
    for namespace in namespaces {
        for kind in Kind::ALL {
            let source = Source {
                kind,
                namespace: namespace.clone(),
                // Not all of them at once.
                round: args.resync + Duration::from_secs(7 * u64::try_from(threads).unwrap_or(0)),
                socket: global.socket.clone(),
                timeout: global.timeout,
                color: global.color,
                quiet: args.quiet,
                kubectl: Arc::clone(&kubectl),
                board: board.clone(),
                stop: Arc::clone(&stop),
                tell: tell.clone(),
            };
            spawn(tell.clone(), move || source.run());
            threads += 1;
        }
    }
    if let Some(board) = board.clone() {
        let (kubectl, stop) = (Arc::clone(&kubectl), Arc::clone(&stop));
        let line = tell.clone();
        let shared = args.status == StatusMode::Always;
        spawn(tell.clone(), move || {
            status::write(&board, shared, &kubectl, &stop, &move |news| {
                let _ = line.send(news);
            });
        });
        threads += 1;
    }
    let result = print(ui, &news);
    stop.set();
    if let Some(board) = board {
        board.close();
    }
    kubectl.stop();
    let deadline = Instant::now() + END;
    while threads > 0 {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Ended) => threads -= 1,
            Ok(News::Line(..) | News::Stop(_)) => {}
            // What still hangs ends with the process.
            Err(_) => break,
        }
    }
    result.map(|()| OK)
}

fn spawn(tell: Sender<News>, work: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        work();
        let _ = tell.send(News::Ended);
    });
}

fn watch_signals(tell: Sender<News>) -> Result<(), Error> {
    let signals = Signals::new([SIGTERM, SIGINT]);
    let mut signals =
        signals.map_err(|error| Error::Usage(format!("cannot wait for signals: {error}")))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = tell.send(News::Stop(signal));
        }
    });
    Ok(())
}

/// Prints until there is a signal, or nobody to print for.
fn print(ui: &mut Ui<'_>, news: &mpsc::Receiver<News>) -> Result<(), Error> {
    while let Ok(news) = news.recv() {
        match news {
            News::Line(Tone::Plain, text) => {
                ui.line(Tone::Plain, text)?;
                ui.flush()?;
            }
            News::Line(tone, text) => ui.complain(tone, text)?,
            News::Stop(signal) => {
                let name = if signal == SIGINT {
                    "SIGINT"
                } else {
                    "SIGTERM"
                };
                ui.line(
                    Tone::Plain,
                    format!("{name}: stopping; what was fed stays in tmm"),
                )?;
                return ui.flush();
            }
            News::Ended => {}
        }
    }
    Ok(())
}
