//! Packet sockets that hand fragments over as they came.
//!
//! DPDK's driver `af_packet` has the kernel put IPv4 datagrams together before it hands them over
//! (`PACKET_FANOUT_FLAG_DEFRAG`), and takes no argument that says otherwise. What arrives is no frame of the
//! wire then: a datagram that is longer than a frame of the ring is cut off. The driver asks for it by
//! `setsockopt`, so this program has a `setsockopt` of its own, which takes that flag out of that request
//! while a packet socket's device is made, and passes everything else on to the kernel as it is. A dynamic linker
//! looks up a name in the program before it looks into the C library, and so does a static one.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::hint::black_box;

/// `PACKET_FANOUT_FLAG_DEFRAG` where `PACKET_FANOUT` has its flags: the upper half.
const DEFRAG: c_uint = 0x8000 << 16;

thread_local! {
    static MAKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs what makes packet sockets.
pub(crate) fn unjoined<T>(make: impl FnOnce() -> T) -> T {
    // So that it is part of every program that makes some.
    black_box(setsockopt as unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, u32) -> c_int);
    /// Ends it, however `make` ends.
    struct Made;
    impl Drop for Made {
        fn drop(&mut self) {
            MAKING.set(false);
        }
    }
    MAKING.set(true);
    let _made = Made;
    make()
}

/// The system call, but for the one flag.
///
/// # Safety
/// As of the C library's: `value` points to `length` readable octets.
// SAFETY: the same name, arguments and result as in the C library, which POSIX lays down.
#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> c_int {
    // The driver passes a word. The kernel takes a longer structure too, of which nothing may be lost.
    let is_word = usize::try_from(length) == Ok(size_of::<c_uint>());
    let fanout = level == libc::SOL_PACKET && name == libc::PACKET_FANOUT;
    let asked = (fanout && is_word && !value.is_null() && MAKING.get()).then(|| {
        // SAFETY: there are as many octets, by the caller's promise; they need not be aligned.
        unsafe { value.cast::<c_uint>().read_unaligned() & !DEFRAG }
    });
    let value = asked
        .as_ref()
        .map_or(value, |word| (&raw const *word).cast());
    // SAFETY: the caller's own arguments, or a word of ours that outlives the call.
    let code = unsafe { libc::syscall(libc::SYS_setsockopt, socket, level, name, value, length) };
    c_int::try_from(code).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// What the kernel keeps of a packet socket's request; `None` without the privilege to have one.
    fn flags_after(ask: impl FnOnce(c_int) -> c_int) -> Option<c_uint> {
        // SAFETY: integers in and out; the descriptor is owned by nobody else.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, c_int::from(3u16.to_be()));
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))?
        };
        assert_eq!(ask(socket.as_raw_fd()), 0);
        let (mut kept, mut length): (c_uint, libc::socklen_t) = (0, 4);
        // SAFETY: one word out, of the length told.
        let code = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw mut kept).cast(),
                &raw mut length,
            )
        };
        assert_eq!(code, 0);
        Some(kept)
    }

    fn request(fd: c_int, id: c_uint) -> c_int {
        let asked = id | DEFRAG;
        // SAFETY: one word, of the length told.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw const asked).cast(),
                4,
            )
        }
    }

    #[test]
    fn a_packet_socket_is_asked_for_all_but_the_putting_together() {
        let id = std::process::id() & 0xffff;
        let Some(kept) = flags_after(|fd| unjoined(|| request(fd, id))) else {
            // SAFETY: asks for a number.
            let root = unsafe { libc::geteuid() } == 0;
            assert!(!root, "packet sockets are not allowed here");
            println!("left out: it takes root");
            return;
        };
        assert_eq!(kept & 0xffff, id);
        assert_eq!(kept & DEFRAG, 0);
        // Nobody else's request is touched.
        let kept = flags_after(|fd| request(fd, id ^ 1)).unwrap();
        assert_eq!(kept & DEFRAG, DEFRAG);
    }

    #[test]
    fn other_options_and_errors_are_the_kernels() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_broadcast(true).unwrap();
        assert!(socket.broadcast().unwrap());
        // SAFETY: nothing is read of no octets.
        let code = unsafe { libc::setsockopt(-1, libc::SOL_SOCKET, 0, std::ptr::null(), 0) };
        assert_eq!(code, -1);
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
