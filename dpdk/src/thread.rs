//! Threads that poll.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::EalInner;
use crate::error::{Error, last_error};
use crate::preflight;

/// Keeps the calling thread known to DPDK; see [`Eal::register_thread`](crate::Eal::register_thread).
///
/// It belongs to the thread that made it and cannot be sent to another.
#[derive(Debug)]
pub struct LcoreGuard {
    /// Whether dropping it has something to undo.
    registered: bool,
    _eal: Arc<EalInner>,
    _this_thread_only: PhantomData<*const ()>,
}

impl LcoreGuard {
    /// `LCORE_ID_ANY`: not known to DPDK.
    const UNKNOWN: u32 = u32::MAX;

    pub(crate) fn register(eal: Arc<EalInner>) -> Result<Self, Error> {
        // SAFETY: reads a thread-local integer.
        let known = unsafe { sys::shim_lcore_id() } != Self::UNKNOWN;
        if !known {
            // SAFETY: EAL is initialised.
            if unsafe { sys::rte_thread_register() } != 0 {
                return Err(Error::Thread(last_error()));
            }
        }
        Ok(Self {
            registered: !known,
            _eal: eal,
            _this_thread_only: PhantomData,
        })
    }

    /// The thread's number in DPDK.
    pub fn lcore_id(&self) -> u32 {
        // SAFETY: reads a thread-local integer.
        unsafe { sys::shim_lcore_id() }
    }
}

impl Drop for LcoreGuard {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: this thread registered itself (the guard is not `Send`), and EAL is alive.
            unsafe { sys::rte_thread_unregister() }
        }
    }
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// [`Error::Pin`] when there is no such CPU, or the thread may not run on it.
pub fn pin_to_cpu(cpu: usize) -> Result<(), Error> {
    bind_to_cpus(&[cpu])
}

/// Binds the calling thread to some CPUs; threads that it makes inherit that. With none, does nothing.
///
/// # Errors
/// [`Error::Pin`] when there is no such CPU, or the thread may run on none of them.
pub fn bind_to_cpus(cpus: &[usize]) -> Result<(), Error> {
    let Some(first) = cpus.first().copied() else {
        return Ok(());
    };
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    if let Some(cpu) = cpus.iter().copied().find(|cpu| *cpu >= most) {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(Error::Pin { cpu, source });
    }
    // SAFETY: an all-zero set is valid, the CPUs lie in it, and 0 is the calling thread.
    let code = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Pin {
            cpu: first,
            source: io::Error::last_os_error(),
        })
    }
}

/// CPUs the calling thread may run on, in order.
///
/// # Errors
/// The system's, when it has more CPUs than can be told.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    preflight::allowed_cpus()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_to_a_cpu_it_may_run_on() {
        let cpu = preflight::allowed_cpus().unwrap()[0];
        pin_to_cpu(cpu).unwrap();
        assert_eq!(preflight::allowed_cpus().unwrap(), [cpu]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        assert!(
            pin_to_cpu(1023)
                .unwrap_err()
                .to_string()
                .contains("CPU 1023")
        );
        assert!(pin_to_cpu(usize::MAX).is_err());
    }
}
