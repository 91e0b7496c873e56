//! Clocks: what is measured is time on the CPU, not on the wall.

use std::time::Instant;

/// Nanoseconds that the calling thread has spent on a CPU (`CLOCK_THREAD_CPUTIME_ID`).
#[inline]
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    secs * 1_000_000_000 + nanos
}

/// A counter that is read in some nanoseconds, for stretches too short for a system call.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    per_us: u64,
}

impl Ticks {
    /// Finds out how fast the counter counts, in 20 ms.
    pub fn calibrate() -> Self {
        let (start, ticks) = (Instant::now(), Self::now());
        while start.elapsed().as_millis() < 20 {
            std::hint::spin_loop();
        }
        let passed = Self::now().wrapping_sub(ticks);
        let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(1);
        Self {
            per_us: (passed / us.max(1)).max(1),
        }
    }

    /// The counter now.
    #[inline]
    pub fn now() -> u64 {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: every x86-64 has the instruction, and it has no effect but its result.
            unsafe { core::arch::x86_64::_rdtsc() }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            use std::sync::OnceLock;
            static START: OnceLock<Instant> = OnceLock::new();
            let start = START.get_or_init(Instant::now);
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        }
    }

    /// Nanoseconds of that many ticks.
    #[inline]
    pub const fn nanos(self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.per_us
    }

    /// Ticks of that many nanoseconds.
    #[inline]
    pub const fn ticks(self, nanos: u64) -> u64 {
        nanos.saturating_mul(self.per_us) / 1000
    }
}

/// Time that the host took from all CPUs of this machine since it started, in milliseconds; it is
/// in no figure of CPU time, but lengthens what is measured on the wall.
pub fn stolen_ms() -> u64 {
    // In hundredths of a second on every Linux (USER_HZ).
    std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().next()?.split_whitespace().nth(8)?.parse().ok())
        .map_or(0, |ticks: u64| ticks * 10)
}

/// Octets of memory that this process has: resident pages, and pages of hugetlbfs beside them.
pub fn resident_octets() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (field("VmRSS:") + field("HugetlbPages:")) << 10
}

/// Octets of memory of this process that are in huge pages, of the kernel's pool or transparent.
pub fn huge_octets() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let field = |name: &str| -> u64 {
        rollup
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (field("AnonHugePages:") + field("Private_Hugetlb:") + field("Shared_Hugetlb:")) << 10
}

/// From now on, this process gets no transparent huge pages. Returns whether the kernel agreed.
pub fn without_transparent_huge_pages() -> bool {
    // SAFETY: a flag of this process; the other arguments must be zero.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 }
}
