//! Waiting for something to happen: what a poll-mode thread does when there is nothing to poll for.
//!
//! Nothing here is attached to a file descriptor while nobody waits, so waiting costs nothing where it
//! does not happen.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A flag that one thread waits for and any may raise: an eventfd.
#[derive(Debug)]
pub struct Alarm(File);

impl Alarm {
    /// One that is not raised.
    ///
    /// # Errors
    /// The system's, when there are no file descriptors left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes integers; the result is checked, and owned by nobody else.
        let file = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from(OwnedFd::from_raw_fd(fd))
        };
        Ok(Self(file))
    }

    /// Raises it: whoever waits, or is about to, goes on.
    pub fn raise(&self) {
        // It can only fail when it has been raised 2^64 times without being lowered.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Lowers it, whether it was raised or not.
    pub fn lower(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// File descriptors that are waited for together.
#[derive(Debug, Default)]
pub struct WaitSet(Vec<libc::pollfd>);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read.
    Ready,
    /// One of the descriptors has an error: to wait again at once may not help.
    Failed,
    /// The time was up, or a signal came.
    Timeout,
}

impl WaitSet {
    /// Nothing to wait for but time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a descriptor, which must outlive the waits.
    pub fn add(&mut self, fd: RawFd) {
        self.0.push(libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
    }

    /// Waits until one of them is readable, but not longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Woken {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        };
        let count = libc::nfds_t::try_from(self.0.len()).unwrap_or(0);
        // SAFETY: the array has `count` elements and outlives the call, as the time does; there is no
        // signal mask.
        let ready = unsafe {
            libc::ppoll(
                self.0.as_mut_ptr(),
                count,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        if ready <= 0 {
            return Woken::Timeout;
        }
        let mut woken = Woken::Failed;
        for entry in &self.0 {
            if entry.revents & libc::POLLIN != 0 {
                woken = Woken::Ready;
            } else if entry.revents != 0 {
                // An interface that went down leaves its error in the socket until somebody asks.
                clear_error(entry.fd);
            }
        }
        woken
    }
}

/// Takes the pending error off a socket; anything else is left alone.
fn clear_error(fd: RawFd) {
    let _ = socket_option(fd, libc::SO_ERROR);
}

/// An integer option of a socket; `None` if the descriptor is no socket.
pub(crate) fn socket_option(fd: RawFd, option: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: one integer out, of the length told; a descriptor that is none gives an error.
    let code = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (code == 0).then_some(value)
}

/// Lets short waits of the calling thread end on time: the kernel rounds them up by 50 µs otherwise.
pub fn wait_precisely() {
    // SAFETY: takes integers and sets an attribute of the calling thread. Without it, waits are longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn an_alarm_ends_a_wait_whether_it_is_raised_before_or_during() {
        let alarm = std::sync::Arc::new(Alarm::new().unwrap());
        let mut set = WaitSet::new();
        set.add(alarm.as_raw_fd());
        alarm.raise();
        alarm.raise();
        assert_eq!(set.wait(Duration::from_secs(10)), Woken::Ready);
        alarm.lower();
        assert_eq!(set.wait(Duration::from_millis(1)), Woken::Timeout);
        let other = std::sync::Arc::clone(&alarm);
        let raiser = std::thread::spawn(move || other.raise());
        assert_eq!(set.wait(Duration::from_secs(10)), Woken::Ready);
        raiser.join().unwrap();
    }

    #[test]
    fn a_wait_for_nothing_lasts_as_long_as_it_was_told() {
        wait_precisely();
        let begun = Instant::now();
        assert_eq!(
            WaitSet::new().wait(Duration::from_millis(3)),
            Woken::Timeout
        );
        assert!(begun.elapsed() >= Duration::from_millis(3));
    }

    #[test]
    fn a_descriptor_that_is_gone_ends_the_wait_as_failed() {
        let mut set = WaitSet::new();
        set.add(1_000_000);
        assert_eq!(set.wait(Duration::from_secs(10)), Woken::Failed);
    }
}
