//! What tells that a receive queue has something, for a thread that is not polling.
//!
//! Network cards raise an interrupt where their driver passes it on. The drivers on kernel sockets
//! (`af_packet`, `af_xdp`) offer nothing of the kind and keep their sockets to themselves; but a socket
//! that shares a ring with the kernel is readable as long as the ring holds frames, for whoever has
//! the descriptor. So the sockets that appear while such a device is made are its queues', in the order
//! of their numbers, since the kernel gives out the lowest free descriptor. If there are not exactly as
//! many as queues, nothing is assumed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use dpdk_sys as sys;

use crate::device::Device;
use crate::spec::PortSpec;
use crate::wait::socket_option;

/// The descriptors that are open.
#[derive(Debug, Default, Clone)]
pub(crate) struct OpenFiles(BTreeSet<RawFd>);

impl OpenFiles {
    pub(crate) fn now() -> Self {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
        let number = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.ok()?.file_name().to_str()?.parse().ok()
        };
        let mut open: BTreeSet<RawFd> = entries.filter_map(number).collect();
        // One of them was the directory that was read.
        // SAFETY: takes integers and changes nothing.
        open.retain(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
        Self(open)
    }

    /// The sockets of a family that have been opened since.
    fn new_sockets(&self, family: libc::c_int) -> Vec<RawFd> {
        let now = Self::now();
        let new = now.0.difference(&self.0).copied();
        new.filter(|fd| socket_option(*fd, libc::SO_DOMAIN) == Some(family))
            .collect()
    }
}

/// How one learns that a queue has something.
#[derive(Debug)]
pub(crate) enum Wakeup {
    /// The descriptor is readable as long as it has.
    Level(OwnedFd),
    /// The device raises an event, once, after it was asked to. It counts up what it raised, until
    /// that is read.
    Interrupt(File),
    /// The same; what was raised is the driver's to take, and read by us it would miss it.
    InterruptOfDriver(OwnedFd),
}

impl Wakeup {
    pub(crate) fn fd(&self) -> RawFd {
        match self {
            Self::Level(fd) | Self::InterruptOfDriver(fd) => fd.as_raw_fd(),
            Self::Interrupt(event) => event.as_raw_fd(),
        }
    }

    /// Whether it has to be asked for.
    pub(crate) const fn is_interrupt(&self) -> bool {
        !matches!(self, Self::Level(_))
    }

    /// Of a descriptor of a device's interrupt: an eventfd, or a channel of the driver's own (of RDMA verbs).
    fn of_interrupt(fd: OwnedFd) -> Self {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        if link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventfd]") {
            Self::Interrupt(File::from(fd))
        } else {
            Self::InterruptOfDriver(fd)
        }
    }

    /// Takes note of an event.
    pub(crate) fn take(&self) {
        if let Self::Interrupt(event) = self {
            // DPDK makes its event descriptors so that this does not wait.
            let _ = (&*event).read(&mut [0; 8]);
        }
    }
}

/// The wake-ups of a started port's receive queues, by queue; empty where there are none.
pub(crate) fn of_port(
    device: &Device,
    before: &OpenFiles,
    queues: u16,
    interrupts: bool,
) -> Vec<Wakeup> {
    let family = match device.spec() {
        PortSpec::AfPacket(_) => libc::AF_PACKET,
        PortSpec::AfXdp(_) => libc::AF_XDP,
        PortSpec::Pci(_) | PortSpec::Tap(_) | PortSpec::Raw(_) if interrupts => {
            return of_interrupts(device, queues);
        }
        _ => return Vec::new(),
    };
    let sockets = before.new_sockets(family);
    if sockets.len() != usize::from(queues) {
        tracing::debug!(
            port = %device.spec(),
            queues,
            sockets = sockets.len(),
            "the sockets of the queues cannot be told apart"
        );
        return Vec::new();
    }
    all(sockets
        .into_iter()
        .map(|fd| duplicate(fd).map(Wakeup::Level)))
}

fn of_interrupts(device: &Device, queues: u16) -> Vec<Wakeup> {
    all((0..queues).map(|queue| {
        // SAFETY: the port exists and has the queue; integers in and out.
        let fd = unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(device.id(), queue) };
        let fd = (fd > 0).then_some(fd)?;
        // A tap's queue gives the device itself, which is readable as long as frames wait.
        if matches!(device.spec(), PortSpec::Tap(_)) {
            return duplicate(fd).map(Wakeup::Level);
        }
        duplicate(fd).map(Wakeup::of_interrupt)
    }))
}

/// One for each queue, or none at all.
fn all(wakeups: impl Iterator<Item = Option<Wakeup>>) -> Vec<Wakeup> {
    wakeups.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// A descriptor of our own, so that it cannot be closed, and its number given out again, under a waiter.
fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: takes integers; the new descriptor is owned by nobody else.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        (copy >= 0).then(|| OwnedFd::from_raw_fd(copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_file_to_be_opened_is_new() {
        let before = OpenFiles::now();
        let new = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!before.0.contains(&new.as_raw_fd()));
    }

    #[test]
    fn only_sockets_of_the_family_that_are_new_are_found() {
        let old = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = OpenFiles::now();
        assert_eq!(before.new_sockets(libc::AF_INET), Vec::<i32>::new());
        let new = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let _other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let _file = File::open("/proc/self/status").unwrap();
        assert_eq!(before.new_sockets(libc::AF_INET), [new.as_raw_fd()]);
        drop(old);
    }

    #[test]
    fn only_what_counts_events_is_read() {
        let alarm = crate::wait::Alarm::new().unwrap();
        alarm.raise();
        let counter = Wakeup::of_interrupt(duplicate(alarm.as_raw_fd()).unwrap());
        assert!(matches!(counter, Wakeup::Interrupt(_)));
        let mut set = crate::wait::WaitSet::new();
        set.add(counter.fd());
        counter.take();
        let short = std::time::Duration::from_millis(1);
        assert_eq!(set.wait(short), crate::wait::Woken::Timeout);

        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut near, &[0; 8]).unwrap();
        let channel = Wakeup::of_interrupt(OwnedFd::from(far));
        assert!(channel.is_interrupt());
        let mut set = crate::wait::WaitSet::new();
        set.add(channel.fd());
        channel.take();
        assert_eq!(set.wait(short), crate::wait::Woken::Ready);
    }
}
