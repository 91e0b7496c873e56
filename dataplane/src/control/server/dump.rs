//! Connections told piece by piece.

use std::collections::VecDeque;

use config::FieldError;
use config::client::Response;
use crossbeam::channel::{Receiver, TryRecvError, bounded};
use net::Timestamp;

use super::client::{READ_PAUSE, row_line};
use crate::command::{Command, DumpPiece, FlowDump, FlowFilter};
use crate::control::Control;

/// Pieces of a dump that may wait for the control thread.
const DUMP_PIECES: usize = 4;

/// A request for connections under way: the workers tell their flows piece by piece.
pub(super) struct Dump {
    pieces: Receiver<DumpPiece>,
    /// Workers that have not told their last yet.
    workers: usize,
    left: usize,
    told: usize,
}

impl Dump {
    pub(super) fn start(
        control: &Control,
        filter: &FlowFilter,
        limit: usize,
        now: Timestamp,
    ) -> Self {
        let (sender, pieces) = bounded(DUMP_PIECES);
        for (number, worker) in control.workers().iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let dump = FlowDump::new(number, filter.clone(), now, sender.clone());
            if let Err(Command::Dump(dump)) = worker.commands.push(Command::Dump(dump)) {
                dump.refuse();
            }
        }
        Self {
            pieces,
            workers: control.workers().len(),
            left: limit,
            told: 0,
        }
    }

    /// Takes what the workers have told; true once that was all, or all there will be.
    pub(super) fn advance(&mut self, control: &Control, output: &mut VecDeque<u8>) -> bool {
        while output.len() < READ_PAUSE {
            let last = match self.pieces.try_recv() {
                Ok(DumpPiece::Rows(rows)) => {
                    let all = rows.len() <= self.left;
                    for row in rows.into_iter().take(self.left) {
                        self.left -= 1;
                        self.told += 1;
                        output.extend(row_line("connections", control.flow_row(&row)).as_bytes());
                    }
                    (!all).then(|| self.end(true))
                }
                Ok(DumpPiece::End) => {
                    self.workers = self.workers.saturating_sub(1);
                    (self.workers == 0).then(|| self.end(false))
                }
                Ok(DumpPiece::Refused) => Some(Self::failed(
                    "too many dumps are running, try again".to_owned(),
                )),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => Some(Self::failed(format!(
                    "given up after {} connections: the answer was not read for 5 s, or a worker \
                     has stopped; try again",
                    self.told
                ))),
            };
            if let Some(last) = last {
                output.extend(last.to_line().as_bytes());
                return true;
            }
        }
        false
    }

    fn end(&self, more: bool) -> Response {
        Response::End {
            count: self.told,
            more: more.then(String::new),
        }
    }

    /// Not the end of a table: who asked must not take what there was for all there is.
    fn failed(why: String) -> Response {
        Response::refused("SHOW", vec![FieldError::whole(why)])
    }
}

/// Connections being ended: each worker says how many it has ended when it is through.
pub(super) struct Flushing {
    answers: Receiver<u64>,
    /// Workers that are not through.
    workers: usize,
    ended: usize,
}

impl Flushing {
    pub(super) const fn new(answers: Receiver<u64>, workers: usize) -> Self {
        Self {
            answers,
            workers,
            ended: 0,
        }
    }

    /// The answer, once all are through.
    pub(super) fn advance(&mut self) -> Option<Response> {
        while self.workers > 0 {
            match self.answers.try_recv() {
                Ok(ended) => {
                    self.workers -= 1;
                    self.ended = self
                        .ended
                        .saturating_add(usize::try_from(ended).unwrap_or(0));
                }
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    let why = format!(
                        "{} connections ended, but not those of {} workers, which have too much to do \
                         or have stopped; try again",
                        self.ended, self.workers
                    );
                    return Some(Response::refused("FLUSH", vec![FieldError::whole(why)]));
                }
            }
        }
        Some(Response::End {
            count: self.ended,
            more: None,
        })
    }
}
