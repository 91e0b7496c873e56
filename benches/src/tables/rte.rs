//! DPDK's `rte_hash` (cuckoo hashing, bulk look-up with prefetch) as an index over an array of
//! entries.

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use dpdk::Eal;
// So that the libraries are linked which that crate finds.
use dpdk_sys as _;
use net::FlowKey;
use zerocopy::IntoBytes;

use super::{BATCH, FlowTable};

#[repr(C)]
struct RawTable {
    opaque: [u8; 0],
    not_send: PhantomData<*mut u8>,
}

// As benches/shim/bench_hash.h has them.
unsafe extern "C" {
    fn bench_hash_create(
        name: *const c_char,
        entries: u32,
        key_len: u32,
        seed: u32,
    ) -> *mut RawTable;
    fn bench_hash_free(table: *mut RawTable);
    fn bench_hash_add(table: *mut RawTable, key: *const c_void, value: u64) -> c_int;
    fn bench_hash_remove(table: *mut RawTable, key: *const c_void) -> c_int;
    fn bench_hash_look_up(
        table: *mut RawTable,
        keys: *mut *const c_void,
        count: u32,
        values: *mut *mut c_void,
    ) -> u64;
}

/// The tuple of IPv4 in 16 octets.
type Short = [u8; 16];

/// How long the keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLength {
    /// 16 octets: IPv4 alone.
    Short,
    /// 40 octets: either family, as our own tables take them.
    Long,
}

#[derive(Clone, Copy)]
struct Entry {
    keys: [FlowKey; 2],
    state: [u64; 10],
}

/// DPDK's table of slot numbers.
pub struct Rte {
    raw: NonNull<RawTable>,
    length: KeyLength,
    entries: Vec<Entry>,
    free: Vec<u32>,
    // The table's memory is DPDK's.
    _eal: Eal,
}

impl Rte {
    /// Room for that many flows. Several may exist at a time, under different names.
    ///
    /// Errors: no memory, or a name that is taken.
    pub fn new(eal: &Eal, name: &str, flows: usize, length: KeyLength) -> Result<Self, String> {
        let c_name = CString::new(name).map_err(|error| error.to_string())?;
        let entries = u32::try_from(flows * 2).map_err(|error| error.to_string())?;
        let octets = match length {
            KeyLength::Short => size_of::<Short>(),
            KeyLength::Long => size_of::<FlowKey>(),
        };
        let octets = u32::try_from(octets).map_err(|error| error.to_string())?;
        // SAFETY: DPDK is initialised, as `eal` shows; the name is copied.
        let raw = unsafe { bench_hash_create(c_name.as_ptr(), entries.max(64), octets, 7) };
        Ok(Self {
            raw: NonNull::new(raw).ok_or_else(|| {
                format!("rte_hash for {flows} flows cannot be made: too little memory")
            })?,
            length,
            entries: Vec::with_capacity(flows),
            free: Vec::new(),
            _eal: eal.clone(),
        })
    }

    fn with_key<R>(&self, key: &FlowKey, f: impl FnOnce(*mut RawTable, *const c_void) -> R) -> R {
        let short = short(key);
        let at = match self.length {
            KeyLength::Short => short.as_ptr(),
            KeyLength::Long => key.as_bytes().as_ptr(),
        };
        f(self.raw.as_ptr(), at.cast())
    }
}

#[inline]
fn short(key: &FlowKey) -> Short {
    let mut out = [0; 16];
    out[..4].copy_from_slice(&key.src.v4_octets());
    out[4..8].copy_from_slice(&key.dst.v4_octets());
    out[8..10].copy_from_slice(&key.sport().0.to_ne_bytes());
    out[10..12].copy_from_slice(&key.dport().0.to_ne_bytes());
    out[12] = key.proto.0;
    out
}

impl FlowTable for Rte {
    fn insert(&mut self, original: &FlowKey, reply: &FlowKey) -> bool {
        let entry = Entry {
            keys: [*original, *reply],
            state: [1; 10],
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            slot
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        [(original, 0), (reply, 1)].iter().all(|(key, direction)| {
            let value = u64::from(slot) << 1 | direction;
            self.with_key(key, |table, key| {
                // SAFETY: the table lives as long as `self`, and the key has as many octets as it
                // was made for.
                unsafe { bench_hash_add(table, key, value) >= 0 }
            })
        })
    }

    fn look_up(&mut self, keys: &[FlowKey]) -> usize {
        let mut shorts = [[0u8; 16]; BATCH];
        let mut pointers: [*const c_void; BATCH] = [std::ptr::null(); BATCH];
        let mut values: [*mut c_void; BATCH] = [std::ptr::null_mut(); BATCH];
        let keys = &keys[..keys.len().min(BATCH)];
        for ((pointer, small), key) in pointers.iter_mut().zip(&mut shorts).zip(keys) {
            *pointer = match self.length {
                KeyLength::Short => {
                    *small = short(key);
                    small.as_ptr().cast()
                }
                KeyLength::Long => key.as_bytes().as_ptr().cast(),
            };
        }
        let count = u32::try_from(keys.len()).unwrap_or(0);
        // SAFETY: as many keys and places for values as `count` says, of the table's key length.
        let mut hits = unsafe {
            bench_hash_look_up(
                self.raw.as_ptr(),
                pointers.as_mut_ptr(),
                count,
                values.as_mut_ptr(),
            )
        };
        let mut found = 0;
        while hits != 0 {
            let at = hits.trailing_zeros() as usize;
            hits &= hits - 1;
            let entry = &self.entries[values[at].addr() >> 1];
            found += usize::from(entry.state[0] != 0 && entry.keys[0].proto.0 != 0);
        }
        found
    }

    fn remove(&mut self, original: &FlowKey, reply: &FlowKey) -> bool {
        let mut values = [std::ptr::null_mut(); 1];
        // SAFETY: one key of the table's length, and a place for one value.
        let slot = self.with_key(original, |table, mut key| unsafe {
            (bench_hash_look_up(table, &raw mut key, 1, values.as_mut_ptr()) != 0)
                .then(|| values[0].addr() >> 1)
        });
        let gone = [original, reply].iter().all(|key| {
            self.with_key(key, |table, key| {
                // SAFETY: as above.
                unsafe { bench_hash_remove(table, key) != 0 }
            })
        });
        if gone {
            self.free
                .extend(slot.and_then(|slot| u32::try_from(slot).ok()));
        }
        gone
    }
}

impl Drop for Rte {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and freed once.
        unsafe { bench_hash_free(self.raw.as_ptr()) };
    }
}
