//! Memory for the table's arrays: one mapping each, of 2 MiB pages where there are any.
//!
//! At a million flows nearly every packet meets pages that no TLB entry covers if they are of
//! 4 KiB, and each then costs a second walk through memory. So the arrays come straight from the
//! kernel: from its pool of huge pages if asked for and if enough are free, all of them at once, else as
//! ordinary memory that it is asked to back with transparent huge pages; of that, pages that are never
//! touched take no memory.
//!
//! Here and in `machine` are the crate's only unsafe lines; what they offer is safe.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zerocopy::FromZeros;

/// The size of a huge page, octets. It is asked for by name, for the kernel's default may be another.
const HUGE: usize = 2 << 20;

/// A fixed array in memory of its own, of which the first `len` elements are in use.
pub(crate) struct Pages<T> {
    data: NonNull<T>,
    len: usize,
    capacity: usize,
    /// What was mapped, octets.
    mapped: usize,
    owns: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, as a `Box<[T]>`'s memory does.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: shared references give shared references to elements only.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Copy> Pages<T> {
    /// Room for `capacity` elements, none in use. `hugetlb` asks for pages of the kernel's pool first.
    ///
    /// # Panics
    ///
    /// If the kernel refuses the address space, as `Vec` does.
    pub(crate) fn with_capacity(capacity: usize, hugetlb: bool) -> Self {
        let octets = capacity
            .checked_mul(size_of::<T>())
            .map(|n| n.max(1))
            .and_then(|n| n.checked_next_multiple_of(if n >= HUGE { HUGE } else { 4096 }));
        let mapping = octets.and_then(|octets| Some((map(octets, hugetlb)?, octets)));
        let Some((data, mapped)) = mapping else {
            let layout = std::alloc::Layout::array::<T>(capacity);
            std::alloc::handle_alloc_error(layout.unwrap_or(std::alloc::Layout::new::<T>()))
        };
        // A mapping begins at a page: aligned for every element.
        const { assert!(align_of::<T>() <= 4096) };
        Self {
            data: data.cast(),
            len: 0,
            capacity,
            mapped,
            owns: PhantomData,
        }
    }

    /// Puts `value` behind the last element; whether there was room.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> bool {
        if self.len == self.capacity {
            return false;
        }
        // SAFETY: `len < capacity`, so the place lies in the mapping, and nobody else has it.
        unsafe { self.data.add(self.len).write(value) };
        self.len += 1;
        true
    }
}

impl<T: Copy> Pages<T> {
    /// As [`with_capacity`](Self::with_capacity), for what is hardly used in most tables: what lies in the first
    /// 2 MiB comes in small pages.
    pub(crate) fn beginning_small(capacity: usize) -> Self {
        let pages = Self::with_capacity(capacity, false);
        if pages.mapped >= HUGE {
            // SAFETY: advice about the beginning of the mapping just made, which is as long as that.
            unsafe { libc::madvise(pages.data.as_ptr().cast(), HUGE, libc::MADV_NOHUGEPAGE) };
        }
        pages
    }
}

impl<T: Copy + FromZeros> Pages<T> {
    /// `len` elements, all zero.
    pub(crate) fn zeroed(len: usize, hugetlb: bool) -> Self {
        let mut pages = Self::with_capacity(len, hugetlb);
        // Anonymous memory is zero when it is first read (mmap(2)), and zero is a valid T.
        pages.len = len;
        pages
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` elements were written, or are zero and valid so.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and not used any more; elements are `Copy`.
        unsafe { libc::munmap(self.data.as_ptr().cast(), self.mapped) };
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.len, self.capacity)
    }
}

/// Zeroed memory of its own; `None` if the kernel refuses.
fn map(octets: usize, hugetlb: bool) -> Option<NonNull<u8>> {
    let (access, plain) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    let mmap = |octets: usize, flags: libc::c_int| {
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), octets, access, flags, -1, 0) };
        (at != libc::MAP_FAILED).then_some(at.cast::<u8>())
    };
    if octets < HUGE {
        return mmap(octets, plain).and_then(NonNull::new);
    }
    if hugetlb && let Some(at) = mmap(octets, plain | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) {
        // They are set aside, so they may as well be there: whoever meets a page for the first time
        // waits for all of it to be cleared. And a limit of the control group shows here, as an error;
        // later it would be a signal.
        // SAFETY: the mapping just made, which nobody uses yet.
        let there = unsafe { libc::madvise(at.cast(), octets, libc::MADV_POPULATE_WRITE) };
        // Linux before 5.14 does not know how to.
        let unknown = || std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        if there == 0 || unknown() {
            return NonNull::new(at);
        }
        // SAFETY: as above.
        unsafe { libc::munmap(at.cast(), octets) };
    }
    // One huge page more than needed, so that the array can begin at the boundary of one.
    let at = mmap(octets + HUGE, plain | libc::MAP_NORESERVE)?;
    let skip = at.align_offset(HUGE);
    // SAFETY: both pieces lie in the mapping just made, before and behind the part that is kept.
    let kept = unsafe {
        if skip > 0 {
            libc::munmap(at.cast(), skip);
        }
        let kept = at.add(skip);
        libc::munmap(kept.add(octets).cast(), HUGE - skip);
        // Advice only: without transparent huge pages it stays ordinary memory.
        libc::madvise(kept.cast(), octets, libc::MADV_HUGEPAGE);
        kept
    };
    NonNull::new(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_zero_keep_what_is_written_and_end_where_they_should() {
        for (len, hugetlb) in [
            (0, false),
            (1, false),
            (1000, true),
            (3 << 20, false),
            (1 << 20, true),
        ] {
            let mut pages = Pages::<u32>::zeroed(len, hugetlb);
            assert_eq!(pages.len(), len);
            assert!(pages.iter().step_by(509).all(|word| *word == 0));
            if let Some(last) = pages.last_mut() {
                *last = 7;
                assert_eq!(pages[len - 1], 7);
            }
        }
        let mut pages = Pages::with_capacity(2, false);
        assert!(pages.is_empty() && pages.push(1u64) && pages.push(2) && !pages.push(3));
        assert_eq!(pages[..], [1, 2]);
        assert_eq!(format!("{pages:?}"), "2 of 2");
    }
}
