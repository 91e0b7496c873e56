//! Connections told piece by piece.

use std::collections::VecDeque;

use config::client::Response;
use conntrack::Cursor;
use crossbeam::channel::{Receiver, TryRecvError, bounded};
use net::Timestamp;
use tracing::warn;

use super::client::{READ_PAUSE, row_line};
use crate::command::{Command, FlowDump, FlowFilter, FlowRow};
use crate::control::Control;

/// Pieces of a dump that may wait for the control thread.
const DUMP_PIECES: usize = 4;

/// A request for connections under way: the workers tell their flows piece by piece.
pub(super) struct Dump {
    rows: Receiver<Vec<FlowRow>>,
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
        let (sender, rows) = bounded(DUMP_PIECES);
        for (number, worker) in control.workers().iter().enumerate() {
            let dump = FlowDump {
                worker: u16::try_from(number).unwrap_or(u16::MAX),
                filter: filter.clone(),
                now,
                rows: sender.clone(),
                cursor: Cursor::default(),
            };
            if worker.commands.push(Command::Dump(dump)).is_err() {
                warn!(
                    worker = number,
                    "too many commands under way: its connections are not shown"
                );
            }
        }
        Self {
            rows,
            left: limit,
            told: 0,
        }
    }

    /// Takes what the workers have told; true once that was all.
    pub(super) fn advance(&mut self, control: &Control, output: &mut VecDeque<u8>) -> bool {
        while output.len() < READ_PAUSE {
            match self.rows.try_recv() {
                Ok(rows) => {
                    for row in rows {
                        if self.left == 0 {
                            let end = Response::End {
                                count: self.told,
                                more: Some(String::new()),
                            };
                            output.extend(end.to_line().as_bytes());
                            return true;
                        }
                        self.left -= 1;
                        self.told += 1;
                        output.extend(row_line("connections", control.flow_row(&row)).as_bytes());
                    }
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    let end = Response::End {
                        count: self.told,
                        more: None,
                    };
                    output.extend(end.to_line().as_bytes());
                    return true;
                }
            }
        }
        false
    }
}
