//! Pools of packet buffers.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use crate::eal::{Eal, EalInner};
use crate::error::{Error, Excerpt, last_error};
use crate::log;
use crate::mbuf::{HEADROOM, Mbuf};

/// The caches of a pool's lcores, octets.
const CACHES: u64 = 4 << 20;
/// A page that is not huge, octets.
const PAGE: u64 = 4096;

/// How a [`Mempool`] is to be made.
#[derive(Debug, Clone)]
pub struct MempoolConfig {
    /// Name, unique in the process: 1 to 24 bytes.
    pub name: String,
    /// How many mbufs, at least 1. One less than a power of two wastes the least memory.
    pub count: u32,
    /// Mbufs kept aside for each registered thread: at most 512 and at most two thirds of `count`.
    pub cache: u32,
    /// Bytes a frame can have in one mbuf, behind the headroom.
    pub data_room: u16,
    /// NUMA node to take the memory from; any when `None`.
    pub socket: Option<u16>,
}

impl MempoolConfig {
    /// A pool of `count` mbufs of 2 KiB with the largest sensible cache.
    pub fn new(name: impl Into<String>, count: u32) -> Self {
        Self {
            name: name.into(),
            count,
            cache: (count / 8).min(512),
            data_room: 2048,
            socket: None,
        }
    }

    /// Memory the pool takes of hugepages, in bytes, rounded up. What EAL is given must cover the sum
    /// of the pools and some 30 MiB of its own.
    pub fn memory_bytes(&self) -> u64 {
        self.object_bytes() * u64::from(self.count) + CACHES
    }

    /// The same without hugepages: there, DPDK lets no object cross the border of a page, so that of a
    /// usual one, a third of each page is left over.
    pub fn ordinary_bytes(&self) -> u64 {
        let object = self.object_bytes();
        let pages = if object > PAGE {
            u64::from(self.count) * object.div_ceil(PAGE)
        } else {
            u64::from(self.count).div_ceil(PAGE / object)
        };
        pages * PAGE + CACHES
    }

    /// Mempool header and padding, the mbuf itself, its buffer.
    fn object_bytes(&self) -> u64 {
        const OVERHEAD: u64 = 192;
        let buffer = u64::from(self.data_room) + u64::from(HEADROOM);
        (buffer + OVERHEAD + u64::from(sys::SHIM_MBUF_SIZE)).next_multiple_of(64)
    }
}

/// A pool of mbufs, shared by whoever holds a clone of this handle.
///
/// Mbufs may outlive every handle: the pool's memory is given back with the last handle only if no
/// mbuf is missing by then, and kept until the process ends otherwise (with a warning, since a clean
/// stop has none missing). One driver is known not to return all it took: `af_xdp` forgets the
/// buffers it lent to the kernel.
#[derive(Clone)]
pub struct Mempool(Arc<PoolInner>);

struct PoolInner {
    raw: NonNull<sys::rte_mempool>,
    config: MempoolConfig,
    /// A driver has used the pool that does not return all it took.
    forgetful_driver: AtomicBool,
    eal: Arc<EalInner>,
}

// SAFETY: DPDK's mempools are made for use by many threads at once (multi-producer and
// multi-consumer ring; per-lcore caches are touched by their own thread only).
unsafe impl Send for PoolInner {}
// SAFETY: as above.
unsafe impl Sync for PoolInner {}

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    /// [`Error::BadConfig`] for a value out of its range, [`Error::Mempool`] when the name is taken
    /// or EAL's memory does not suffice.
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, Error> {
        let name = check(config)?;
        let socket = config.socket.map_or(sys_socket_any(), i32::from);
        let room = u32::from(config.data_room) + u32::from(HEADROOM);
        let room = u16::try_from(room).map_err(|_| {
            Error::BadConfig(format!(
                "mempool {:?}: a data room of {} bytes and the headroom of {HEADROOM} exceed 65535",
                config.name, config.data_room
            ))
        })?;
        let (raw, lines) = log::capture(|| {
            // SAFETY: EAL is initialised (`eal` proves it) and `name` is a C string.
            let raw = unsafe {
                sys::rte_pktmbuf_pool_create(
                    name.as_ptr(),
                    config.count,
                    config.cache,
                    0,
                    room,
                    socket,
                )
            };
            NonNull::new(raw).ok_or_else(last_error)
        });
        let raw = raw.map_err(|source| Error::Mempool {
            name: config.name.clone(),
            count: config.count,
            mib: config.memory_bytes().div_ceil(1 << 20),
            hint: match source.raw_os_error() {
                Some(libc::ENOMEM) => " (give DPDK more memory, or use fewer or smaller mbufs)",
                Some(libc::EEXIST) => " (the name is taken)",
                _ => "",
            },
            source,
            log: Excerpt::of(&lines),
        })?;
        Ok(Self(Arc::new(PoolInner {
            raw,
            config: config.clone(),
            forgetful_driver: AtomicBool::new(false),
            eal: Arc::clone(eal.inner()),
        })))
    }

    /// Mbufs free now. Exact only while no other thread allocates or frees.
    pub fn available(&self) -> u32 {
        self.0.available()
    }

    /// Mbufs that are out: held by the program or by a port's queues.
    pub fn in_use(&self) -> u32 {
        self.capacity().saturating_sub(self.available())
    }

    /// Mbufs the pool has.
    pub fn capacity(&self) -> u32 {
        self.0.capacity()
    }

    /// Bytes a frame can have in one mbuf, behind the headroom.
    pub fn data_room(&self) -> u16 {
        self.0.config.data_room
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// Takes one mbuf: empty, its data at the headroom. `None` when the pool has run dry.
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive as long as `self`.
        let raw = NonNull::new(unsafe { sys::shim_mbuf_alloc(self.raw()) })?;
        // SAFETY: a fresh mbuf, owned by nobody else.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    /// Appends `n` mbufs to `out`: all of them, or none. Returns whether it did; it does not when
    /// the pool has fewer, or `out` has no room for them.
    pub fn alloc_bulk<const N: usize>(&self, out: &mut ArrayVec<Mbuf, N>, n: usize) -> bool {
        let Ok(count) = u32::try_from(n) else {
            return false;
        };
        if n > out.remaining_capacity() {
            return false;
        }
        let len = out.len();
        // SAFETY: `Mbuf` is a transparent non-null pointer, so the `n` slots behind `len`, which the
        // check above showed to exist, are what the function fills when it returns 0.
        unsafe {
            let slots = out.as_mut_ptr().add(len).cast::<*mut sys::rte_mbuf>();
            if sys::shim_mbuf_alloc_bulk(self.raw(), slots, count) != 0 {
                return false;
            }
            out.set_len(len + n);
        }
        true
    }

    /// Notes that a driver is about to use the pool that does not return all it takes.
    pub(crate) fn expect_losses(&self) {
        self.0.forgetful_driver.store(true, Ordering::Relaxed);
    }

    pub(crate) fn raw(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}

fn sys_socket_any() -> i32 {
    -1 // SOCKET_ID_ANY, part of DPDK's ABI
}

fn check(config: &MempoolConfig) -> Result<CString, Error> {
    let bad = |why: String| Error::BadConfig(format!("mempool {:?}: {why}", config.name));
    // DPDK prefixes the name of the ring behind the pool.
    let longest = sys::SHIM_MEMPOOL_NAME_SIZE as usize - 2;
    if config.name.is_empty() || config.name.len() > longest {
        return Err(bad(format!("the name must have 1 to {longest} bytes")));
    }
    if config.count == 0 {
        return Err(bad("it must have at least one mbuf".to_owned()));
    }
    if config.cache > sys::SHIM_MEMPOOL_CACHE_MAX {
        return Err(bad(format!(
            "a cache of {} exceeds {}",
            config.cache,
            sys::SHIM_MEMPOOL_CACHE_MAX
        )));
    }
    if u64::from(config.cache) * 3 > u64::from(config.count) * 2 {
        return Err(bad(format!(
            "a cache of {} exceeds two thirds of {} mbufs",
            config.cache, config.count
        )));
    }
    CString::new(config.name.as_str()).map_err(|_| bad("the name has a NUL byte".to_owned()))
}

impl PoolInner {
    fn available(&self) -> u32 {
        // SAFETY: the pool is alive; the count is a snapshot of atomics and per-lcore lengths.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    fn capacity(&self) -> u32 {
        // SAFETY: the pool is alive and its size never changes.
        unsafe { sys::shim_mempool_size(self.raw.as_ptr()) }
    }
}

impl Drop for PoolInner {
    fn drop(&mut self) {
        // Nobody can allocate any more: that takes a handle, or a port, which holds one. Frees can
        // still come in from other threads; DPDK counts the ring before the caches, so an mbuf
        // moving from a cache to the ring is counted once or not at all, and "none missing" is
        // never claimed too early.
        let missing = self.capacity().saturating_sub(self.available());
        if missing == 0 {
            // SAFETY: no handle and no mbuf is left, see above.
            unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
        } else {
            let pool = self.config.name.as_str();
            let what = "mbufs outlive their mempool; its memory stays until the process ends";
            if self.forgetful_driver.load(Ordering::Relaxed) {
                tracing::debug!(pool, missing, "{what}");
            } else {
                tracing::warn!(pool, missing, "{what}");
            }
            // The mbufs point into EAL's memory, so EAL must stay as well.
            std::mem::forget(Arc::clone(&self.eal));
        }
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("name", &self.name())
            .field("capacity", &self.capacity())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
