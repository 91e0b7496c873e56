"""The test bed: namespaces, switch, client and server on this machine, and the guest with its virtual functions."""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path

import image
from guest import Guest, die_with_parent

PREFIX = f"tmm-vf-{os.getpid()}"
# More hosts on the clients' VLAN, for what neighbours share out among them.
CLIENTS = [f"client{number}" for number in range(2, 8)]
HERE = Path(__file__).parent


def say(text):
    print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


class Failure(Exception):
    """What was to be shown is not so."""


def run(*command, check=True, timeout=30, **more):
    """Runs a command to its end; gives it with its output."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False, **more
    )
    if check and done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: exit status {done.returncode}: {done.stdout}{done.stderr}")
    return done


def eventually(what, seconds, attempt):
    """Tries until `attempt` gives something true, and gives that. Conditions, never fixed times: the emulated
    machine is five times slower when this one is busy."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = attempt()
            why = value
        except Failure as failure:
            value, why = None, failure
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s ({why})")
        time.sleep(0.1)


def sweep():
    """What test runs that are gone have left behind."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        parts = name.split("-")
        if name.startswith("tmm-vf-") and parts[2].isdigit() and not os.path.isdir(f"/proc/{parts[2]}"):
            run("ip", "netns", "del", name, check=False)


class Lab:
    def __init__(self, cache, programs, directory):
        self.directory = directory
        self.programs = programs.absolute()
        self.processes = []
        self.namespaces = {}
        self.guest = None
        self.vfs = {}
        try:
            self._build(cache)
        except BaseException:
            print(self.evidence(), flush=True)
            self.close()
            raise

    def _build(self, cache):
        sweep()
        done = subprocess.run([HERE / "fetch.sh", cache], check=False)
        if done.returncode:
            raise Failure(f"what the guest needs could not be fetched into {cache}")
        image.vmlinux(cache / "kernel", cache / "vmlinux")
        initrd = self.directory / "initrd"
        image.build(cache, [self.programs / "tmm", self.programs / "tmmctl"], initrd)
        say(f"guest image made, {initrd.stat().st_size >> 20} MiB; booting")
        taps = [f"tmmvf{os.getpid() % 100000}{end}" for end in "ab"]
        self.guest = Guest(cache / "tools", cache / "vmlinux", initrd, taps, self.directory)
        self._wire(taps)
        self.guest.wait_up()
        say("guest is up")
        self._make_functions()

    def netns(self, role):
        return self.namespaces[role]

    def inside(self, role, *command, **more):
        """Runs a command in a namespace."""
        return run("ip", "netns", "exec", self.netns(role), *command, **more)

    def start(self, role, *command):
        """Starts a command in a namespace; its output goes to a file. Gives the process with `.log`."""
        log = self.directory / f"{len(self.processes)}-{Path(command[0]).name}.log"
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns(role), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=open(log, "w"),
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        process.log = log
        self.processes.append(process)
        return process

    def _wire(self, taps):
        for role in ("wire", "client", "server", *CLIENTS):
            name = f"{PREFIX}-{role}"
            run("ip", "netns", "add", name)
            self.namespaces[role] = name
            quiet = "echo 1 >default/disable_ipv6;" if role == "wire" else ""
            self.inside(
                role, "sh", "-c",
                f"ip link set lo up; cd /proc/sys/net/ipv6/conf; {quiet} echo 0 >default/accept_dad; echo 0 >default/accept_ra",
            )
        for tap in taps:
            eventually(f"QEMU opens {tap}", 20, lambda: run("ip", "link", "show", tap, check=False).returncode == 0)
            run("ip", "link", "set", tap, "netns", self.netns("wire"))
            # Room for a tag and for the larger MTU of one of the cases.
            self.inside("wire", "ip", "link", "set", tap, "mtu", "4100", "up")
        self.taps = taps
        wire, client, server = (self.netns(role) for role in ("wire", "client", "server"))
        switch = self.start(
            "wire", self.programs / "vlan-switch",
            f"--trunk=netns={wire},dev={taps[0]},vlans=100+300",
            f"--trunk=netns={wire},dev={taps[1]},vlans=200",
            f"--access=netns={client},dev=eth0,vlan=100",
            f"--access=netns={client},dev=eth1,vlan=300",
            f"--access=netns={server},dev=eth0,vlan=200",
            *(f"--access=netns={self.netns(role)},dev=eth0,vlan=100" for role in CLIENTS),
        )
        eventually("the switch", 10, lambda: "READY" in switch.log.read_text())
        for role, device, addresses in (
            ("client", "eth0", ["192.0.2.10/24", "2001:db8:100::10/64"]),
            ("client", "eth1", ["192.0.3.10/24"]),
            ("server", "eth0", ["198.51.100.11/24", "2001:db8:200::11/64"]),
            *((role, "eth0", [f"192.0.2.{at}/24", f"2001:db8:100::{at}/64"]) for at, role in enumerate(CLIENTS, 20)),
        ):
            for address in addresses:
                self.inside(role, "ip", "addr", "add", address, "dev", device)
            self.inside(role, "ip", "link", "set", device, "up")
        gateways = (("203.0.113.0/24", "192.0.2.1"), ("2001:db8:ffff::/64", "2001:db8:100::1"))
        for role, (destination, gateway) in itertools.product(("client", *CLIENTS), gateways):
            self.inside(role, "ip", "route", "add", destination, "via", gateway)
        for gateway in ("198.51.100.1", "2001:db8:200::1"):
            self.inside("server", "ip", "route", "add", "default", "via", gateway)
        server = self.start(
            "server", self.programs / "lab-server", "--name=server", "--http=[::]:8080", "--udp=[::]:7007"
        )
        eventually("the server", 10, lambda: "READY" in server.log.read_text())

    # The guest.

    def sh(self, command, timeout=60, check=True):
        """Runs a command in the guest."""
        status, output = self.guest.sh(command, timeout)
        if check and status:
            raise Failure(f"in the guest, {command.splitlines()[0]}: exit status {status}: {output}")
        return output

    def await_carrier(self):
        eventually(
            "the physical functions have a carrier", 60,
            lambda: self.sh("ip -br link | grep -c '^eth.*LOWER_UP'", check=False).strip() == "2",
        )

    def _make_functions(self):
        """Two virtual functions on each physical one, prepared as the SR-IOV CNI plugin does it."""
        self.sh("ip link set eth0 up; ip link set eth1 up")
        self.await_carrier()
        self.sh("for pf in eth0 eth1; do echo 2 >/sys/class/net/$pf/device/sriov_numvfs || exit; done")
        self.await_carrier()
        for pf in (0, 1):
            for vf in (0, 1):
                address = self.sh(
                    f"ip link set eth{pf} vf {vf} mac 02:00:00:00:0{pf}:1{vf} && ip link set eth{pf} vf {vf} spoofchk off "
                    f"&& ip link set eth{pf} vf {vf} trust on && basename $(readlink -f /sys/class/net/eth{pf}/device/virtfn{vf})"
                ).strip()
                device = f"/sys/bus/pci/devices/{address}"
                self.sh(f"echo vfio-pci >{device}/driver_override; echo {address} >/sys/bus/pci/drivers_probe")
                state = self.sh(
                    f"basename $(readlink {device}/driver); ls {device}/iommu_group/devices | wc -l"
                ).split()
                if state != ["vfio-pci", "1"]:
                    raise Failure(f"{address}: driver and devices of its IOMMU group are {state}")
                self.vfs[pf, vf] = address
        say(f"virtual functions on vfio-pci: {' '.join(self.vfs.values())}")

    # tmm in the guest.

    def start_tmm(self, *ports, more=""):
        """Starts tmm on these virtual functions and waits until it is ready."""
        ports = ports or ("1.1=0,0", "1.2=1,0")
        args = []
        for port in ports:
            name, function = port.split("=")
            pf, vf = map(int, function.split(","))
            args.append(f"--port {name}=pci:{self.vfs[pf, vf]}")
        self.sh(f"tmm run --config-socket /run/tmm.sock {' '.join(args)} {more} >>/tmp/tmm.log 2>&1 & echo $! >/tmp/tmm.pid")
        eventually("tmm is ready", 60, self.tmm_is_ready)

    def tmm_is_ready(self):
        if not self.tmm_runs():
            raise RuntimeError(f"tmm ended: {self.tmm_log()[-2000:]}")
        return self.sh("tmmctl --socket /run/tmm.sock show ports --json >/dev/null 2>&1 && echo yes", check=False).strip() == "yes"

    def tmm_runs(self):
        return self.sh("kill -0 $(cat /tmp/tmm.pid) 2>/dev/null && echo yes", check=False).strip() == "yes"

    def tmm_log(self):
        return self.sh("cat /tmp/tmm.log 2>/dev/null", check=False)

    def ctl(self, arguments, objects=()):
        documents = "\n---\n".join(json.dumps(item) for item in objects)
        return self.sh(f"tmmctl --socket /run/tmm.sock {arguments} <<'END'\n{documents}\nEND")

    def apply(self, *objects):
        self.ctl("apply -f -", objects)

    def delete(self, *objects):
        self.ctl("delete -f -", objects)

    def show(self, table):
        return json.loads(self.ctl(f"show {table} --json"))

    def port(self, name):
        return next(row for row in self.show("ports") if row["port"] == name)

    # The end.

    def evidence(self):
        """What helps to understand a failure."""
        parts = []
        if self.guest and self.guest.process.poll() is None:
            for title, command in (
                ("tmm said", "tail -n 40 /tmp/tmm.log"),
                ("ports", "tmmctl --socket /run/tmm.sock show ports --wide"),
                ("drops", "tmmctl --socket /run/tmm.sock show drops"),
                ("the guest's kernel said", "dmesg | tail -n 15"),
            ):
                try:
                    parts.append(f"--- {title}\n{self.guest.sh(f'timeout 5 {command} 2>&1', 15)[1]}")
                except Exception as error:  # the guest may be what is broken
                    parts.append(f"--- {title}: {error}")
                    break
        if self.guest:
            for path in (self.guest.console, self.guest.log):
                if path.exists():
                    parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")
        return "\n".join(parts)

    def save_log(self):
        """Fetches what tmm said."""
        try:
            (self.directory / "tmm.log").write_text(self.tmm_log())
        except Exception as error:  # the guest may be what is broken
            say(f"tmm's log is lost: {error}")

    def close(self):
        """Ends and removes everything; gives the seconds of CPU that QEMU took."""
        cpu = 0.0
        if self.guest:
            cpu = self.guest.cpu_seconds()
            self.guest.off()
        for process in self.processes:
            process.kill()
            process.wait()
        for name in self.namespaces.values():
            run("ip", "netns", "del", name, check=False)
        return cpu
