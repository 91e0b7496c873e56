"""The guest's kernel and initial file system: programs and libraries of this machine, modules of the kernel's package."""

import lzma
import os
import re
import stat
import struct
import subprocess
import zlib
from pathlib import Path

# What the guest loads, with all that these depend on.
MODULES = ["igb", "vfio", "vfio_iommu_type1", "vfio-pci"]
# DPDK's drivers for what the guest has.
DRIVERS = ["librte_bus_pci", "librte_bus_vdev", "librte_mempool_ring", "librte_net_e1000"]
HOST_PROGRAMS = ["/bin/bash", "/sbin/ip"]


class Cpio:
    """An archive as the kernel unpacks it (newc)."""

    def __init__(self, path):
        self.out = open(path, "wb")
        self.number = 0
        self.have = set()

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self.number += 1
        encoded = name.encode() + b"\0"
        fields = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        head = header + encoded
        self.out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def parents(self, path):
        parent = os.path.dirname(path)
        if parent not in ("", "/") and parent not in self.have:
            self.directory(parent)

    def directory(self, path):
        if path in self.have:
            return
        self.parents(path)
        self.have.add(path)
        self._entry(path.lstrip("/"), stat.S_IFDIR | 0o755)

    def link(self, path, target):
        if path not in self.have:
            self.parents(path)
            self.have.add(path)
            self._entry(path.lstrip("/"), stat.S_IFLNK | 0o777, target.encode())

    def file(self, path, data, mode=0o755):
        if path not in self.have:
            self.parents(path)
            self.have.add(path)
            self._entry(path.lstrip("/"), stat.S_IFREG | mode, data)

    def device(self, path, major, minor):
        self.parents(path)
        self._entry(path.lstrip("/"), stat.S_IFCHR | 0o600, device=(major, minor))

    def host_file(self, path):
        """A file of this machine at its own place, and the links that lead to it: one copy of each, or
        DPDK would load a library twice and refuse its own duplicate."""
        directory = os.path.realpath(os.path.dirname(path))
        path = os.path.join(directory, os.path.basename(path))
        if os.path.islink(path):
            target = os.readlink(path)
            self.link(path, target)
            self.host_file(os.path.join(directory, target))
        else:
            self.file(path, Path(path).read_bytes())

    def close(self):
        self._entry("TRAILER!!!", 0)
        self.out.close()


def libraries(paths):
    """The shared libraries that these need, all the way down."""
    text = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=False).stdout
    if missing := re.findall(r"(\S+) => not found", text):
        raise RuntimeError(f"missing on this machine: {', '.join(sorted(set(missing)))}")
    return sorted(set(re.findall(r"(/\S+) \(0x", text)))


def vmlinux(package, out):
    """The kernel proper out of a bzImage: it starts without unpacking itself, which saves 10 s of emulation."""
    if out.exists():
        return
    (image,) = (package / "boot").glob("vmlinuz-*")
    data = image.read_bytes()
    start = data.find(b"\xfd7zXZ\0")
    if start >= 0:
        kernel = lzma.LZMADecompressor().decompress(data[start:])
    elif (start := data.find(b"\x1f\x8b\x08")) >= 0:
        kernel = zlib.decompressobj(31).decompress(data[start:])
    else:
        raise RuntimeError(f"{image}: neither xz nor gzip inside")
    if kernel[:4] != b"\x7fELF":
        raise RuntimeError(f"{image}: no ELF inside")
    out.with_suffix(".new").write_bytes(kernel)
    out.with_suffix(".new").rename(out)


def modules(package):
    """Pairs of file name and content, in an order that can be loaded."""
    files = {}
    for path in (package / "lib/modules").rglob("*.ko*"):
        files[path.name.split(".ko")[0].replace("-", "_")] = path
    ordered = {}

    def load(name):
        name = name.replace("-", "_")
        # One that is not there is built into the kernel.
        if name in ordered or name not in files:
            return
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            data = lzma.decompress(data)
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in (depends.group(1).decode() if depends else "").split(","):
            load(other)
        ordered[name] = data

    for name in MODULES:
        if name.replace("-", "_") not in files:
            raise RuntimeError(f"the kernel package has no module {name}")
        load(name)
    return ordered


def driver_directory():
    libdir = subprocess.run(
        ["pkg-config", "--variable=libdir", "libdpdk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = sorted(Path(libdir, "dpdk").glob("pmds-*"))
    if not found:
        raise RuntimeError(f"no DPDK drivers under {libdir}/dpdk: scripts/setup.sh vf")
    return found[-1]


def build(cache, programs, out):
    """Writes the initial file system to `out`, with `programs` in /usr/local/bin."""
    here = Path(__file__).parent
    cpio = Cpio(out)
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "etc"):
        cpio.directory("/" + name)
    cpio.device("/dev/console", 5, 1)
    for link in ("bin", "sbin", "lib", "lib64"):
        cpio.link("/" + link, "usr/" + link)
        cpio.directory("/usr/" + link)
    cpio.file("/usr/bin/busybox", (cache / "tools/usr/bin/busybox").read_bytes())
    directory = driver_directory()
    drivers = []
    for name in DRIVERS:
        found = sorted(path for path in directory.glob(f"{name}.so.*"))
        if not found:
            raise RuntimeError(f"DPDK's {name} is not installed: scripts/setup.sh vf")
        drivers.append(str(found[0]))
    stripped = []
    for program in programs:
        target = out.with_name(program.name)
        subprocess.run(["strip", "--strip-debug", "-o", target, program], check=True)
        cpio.file(f"/usr/local/bin/{program.name}", target.read_bytes())
        stripped.append(str(target))
    for path in HOST_PROGRAMS + drivers + libraries(HOST_PROGRAMS + drivers + stripped):
        cpio.host_file(path)
    for number, (name, data) in enumerate(modules(cache / "kernel").items()):
        cpio.file(f"/modules/{number:02}-{name}.ko", data, 0o644)
    cpio.file("/init", (here / "guest-init").read_bytes())
    cpio.file("/agent", (here / "guest-agent").read_bytes())
    cpio.close()
    for target in stripped:
        os.unlink(target)
