"""A QEMU guest with two emulated Intel 82576 ports (SR-IOV), and a shell in it over a serial line."""

import base64
import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path


LIBC = ctypes.CDLL(None)


def die_with_parent():
    """For a new process: it is killed with this one, so that an aborted test leaves nothing running."""
    LIBC.prctl(1, signal.SIGKILL)


class GuestFailure(Exception):
    """The guest is of no use any more: it hangs, panicked or ended."""


class Guest:
    def __init__(self, tools, kernel, initrd, taps, directory, memory_mib=1024, cpus=2):
        self.directory = Path(directory)
        self.console = self.directory / "console.log"
        self.log = self.directory / "qemu.log"
        agent = self.directory / "agent.sock"
        tools = Path(tools)
        # Its own loader and libraries: they are newer than this machine's may be.
        command = [
            f"{tools}/lib64/ld-linux-x86-64.so.2", "--library-path", f"{tools}/usr/lib/x86_64-linux-gnu",
            "--argv0", "qemu-system-x86_64", f"{tools}/usr/bin/qemu-system-x86_64",
            "-L", f"{tools}/usr/share/qemu", "-L", f"{tools}/usr/share/seabios", "-L", f"{tools}/usr/lib/ipxe/qemu",
            # Emulated: a machine that is itself a guest may have a KVM that runs no ordinary kernel.
            "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-smp", str(cpus), "-m", str(memory_mib),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-serial", f"file:{self.console}", "-serial", f"unix:{agent},server,nowait",
            "-kernel", str(kernel), "-initrd", str(initrd),
            # no_timer_check: a loaded machine emulates the timer too late for the kernel's taste.
            "-append", "console=ttyS0 panic=-1 quiet intel_iommu=on iommu=pt no_timer_check edd=off "
            "cryptomgr.notests net.ifnames=0 hugepages=128",
            "-device", "intel-iommu,intremap=on,caching-mode=on",
        ]
        for number, tap in enumerate(taps, 1):
            command += [
                "-netdev", f"tap,id=n{number},ifname={tap},script=no,downscript=no",
                "-device", f"pcie-root-port,id=rp{number},slot={number},chassis={number}",
                "-device", f"igb,bus=rp{number},netdev=n{number},mac=52:54:00:aa:00:{number:02x}",
            ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=open(self.log, "w"), stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self.received = b""
        self.line = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.line.connect(str(agent))
                break
            except OSError:
                self._check()
                if time.monotonic() > deadline:
                    raise GuestFailure("QEMU does not open its serial line") from None
                time.sleep(0.05)

    def _check(self):
        if self.process.poll() is not None:
            raise GuestFailure(f"QEMU ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")

    def _until(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.received)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestFailure(f"no answer in {timeout} s; so far: {self.received[-1500:].decode(errors='replace')}")
            self.line.settimeout(min(left, 1))
            try:
                data = self.line.recv(65536)
            except TimeoutError:
                self._check()
                continue
            if not data:
                self._check()
                raise GuestFailure("QEMU closed the serial line")
            self.received += data
        before = self.received[: match.start()]
        self.received = self.received[match.end() :]
        return before.decode(errors="replace").replace("\r", ""), match

    def wait_up(self, timeout=180):
        self._until(rb"GUEST-UP\r?\n", timeout)

    def sh(self, command, timeout=60):
        """Runs a shell command in the guest; gives its exit status and output."""
        tag = f"{time.time_ns():x}"
        self.line.sendall(f"{tag} {base64.b64encode(command.encode()).decode()}\n".encode())
        output, match = self._until(rb"@END-" + tag.encode() + rb" (\d+)\r?\n", timeout)
        return int(match.group(1)), output

    def cpu_seconds(self):
        """What QEMU has used: a measure that other load changes little."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def off(self):
        self.process.kill()
        self.process.wait()
        self.line.close()
