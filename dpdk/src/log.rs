//! DPDK's log, forwarded to `tracing` and kept for error messages.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// One line DPDK logged.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    level: u32,
    pub(crate) text: String,
}

/// `RTE_LOG_ERR`, `RTE_LOG_WARNING` and so on; they are part of DPDK's ABI.
const ERR: u32 = 4;
const WARNING: u32 = 5;
const NOTICE: u32 = 6;
const INFO: u32 = 7;

impl Line {
    pub(crate) fn is_warning(&self) -> bool {
        self.level <= WARNING
    }

    fn forward(&self) {
        let text = self.text.as_str();
        match self.level {
            0..=ERR => tracing::error!(target: "dpdk", "{text}"),
            WARNING => tracing::warn!(target: "dpdk", "{text}"),
            NOTICE => tracing::info!(target: "dpdk", "{text}"),
            INFO => tracing::debug!(target: "dpdk", "{text}"),
            _ => tracing::trace!(target: "dpdk", "{text}"),
        }
    }
}

#[derive(Default)]
struct State {
    /// Text without its newline yet.
    partial: String,
    /// Lines of the operation under way, when there is one.
    captured: Option<Vec<Line>>,
}

/// Bounds on what a failing operation can make us keep.
const MAX_LINES: usize = 256;
const MAX_PARTIAL: usize = 4096;

static STATE: Mutex<State> = Mutex::new(State {
    partial: String::new(),
    captured: None,
});
/// Held over an operation whose log is captured, so that two never mix.
static OPERATION: Mutex<()> = Mutex::new(());

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends DPDK's log here from now on.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `receive` lives as long as the process and has the signature the shim calls.
        if unsafe { dpdk_sys::shim_log_to(Some(receive)) } != 0 {
            tracing::warn!(target: "dpdk", "no memory to redirect DPDK's log; it goes to stderr");
        }
    });
}

/// Runs one control operation and returns what DPDK logged meanwhile. Operations are serialised:
/// DPDK's device list is not meant to be changed by two threads at once.
pub(crate) fn capture<T>(operation: impl FnOnce() -> T) -> (T, Vec<Line>) {
    let _one_at_a_time = OPERATION.lock().unwrap_or_else(PoisonError::into_inner);
    state().captured = Some(Vec::new());
    let result = operation();
    let lines = state().captured.take().unwrap_or_default();
    (result, lines)
}

/// Passes captured lines on to `tracing`, for an operation that went well after all.
pub(crate) fn replay(lines: &[Line]) {
    for line in lines {
        line.forward();
    }
}

unsafe extern "C" fn receive(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the shim passes the buffer stdio hands to its write function: `len` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(bytes);
    let mut now = Vec::new();
    {
        let mut state = state();
        for piece in text.split_inclusive('\n') {
            state.partial.push_str(piece.trim_end_matches('\n'));
            if piece.ends_with('\n') || state.partial.len() > MAX_PARTIAL {
                let text = std::mem::take(&mut state.partial);
                let line = Line {
                    level,
                    text: text.trim().to_owned(),
                };
                if line.text.is_empty() {
                    continue;
                }
                match &mut state.captured {
                    Some(lines) if lines.len() < MAX_LINES => lines.push(line),
                    Some(_) => {}
                    None => now.push(line),
                }
            }
        }
    }
    replay(&now);
}
