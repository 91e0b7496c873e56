//! Huge pages for as long as the benchmarks run.

use std::fs;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Pages of 2 MiB that were added to the kernel's pool; given back when it is dropped.
#[derive(Debug)]
pub struct HugePages {
    before: Option<u64>,
}

impl HugePages {
    /// Sees that `mib` MiB are free, if the system lets us; says so if not, and goes on without.
    pub fn reserve(mib: u64) -> Self {
        let (Some(pool), Some(free)) = (read(POOL), read(FREE)) else {
            return Self { before: None };
        };
        let missing = (mib / 2).saturating_sub(free);
        if missing == 0 {
            return Self { before: None };
        }
        if let Err(error) = fs::write(POOL, (pool + missing).to_string()) {
            eprintln!("no huge pages for this run: {POOL}: {error}");
            return Self { before: None };
        }
        let got = read(FREE).unwrap_or(0);
        if got < mib / 2 {
            eprintln!("only {} of {mib} MiB of huge pages could be had", got * 2);
        }
        Self { before: Some(pool) }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(POOL, before.to_string())
        {
            eprintln!("huge pages were not given back: {POOL}: {error}");
        }
    }
}

fn read(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
