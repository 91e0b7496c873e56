//! A user-space Ethernet switch, so that tagged VLANs can be tested on kernels without 802.1Q.
//!
//! Access ports are TAP devices inside network namespaces; their frames are untagged and belong to
//! one VLAN. Trunk ports are packet sockets on existing devices, where each frame carries its tags.

mod args;
mod fabric;
mod frame;
mod impair;
mod sys;

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use args::Args;
use fabric::{Fabric, Membership};
use frame::{Frame, StrippedTag, Tags};
use impair::{Fate, Impairment, Rates};

/// Frames taken from one port before the others get their turn.
const BATCH: usize = 64;
/// Longer than any frame a device hands over without segmentation offload.
const BUFFER: usize = 65_536;

struct Port {
    label: String,
    membership: Membership,
    file: File,
    received: u64,
    sent: u64,
    failed: u64,
}

impl Port {
    fn new(netns: Option<&str>, dev: &str, membership: Membership, file: File) -> Self {
        let label = netns.map_or_else(|| dev.to_owned(), |netns| format!("{netns}/{dev}"));
        Self {
            label,
            membership,
            file,
            received: 0,
            sent: 0,
            failed: 0,
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<StrippedTag>)> {
        match self.membership {
            Membership::Access(_) => (&self.file).read(buffer).map(|len| (len, None)),
            Membership::Trunk(_) => sys::receive(&self.file, buffer),
        }
    }

    /// Sends one frame; one that the device does not take whole is counted and lost, as on any switch.
    fn send(&mut self, slices: &[IoSlice<'_>]) {
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        match (&self.file).write_vectored(slices) {
            Ok(written) if written == len => self.sent += 1,
            _ => self.failed += 1,
        }
    }

    fn tags(&self, received: Tags) -> Tags {
        match self.membership {
            Membership::Access(_) => Tags::default(),
            Membership::Trunk(_) => received,
        }
    }
}

struct Switch {
    ports: Vec<Port>,
    fabric: Fabric,
    impairment: Impairment,
    buffer: Vec<u8>,
    egress: Vec<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vlan-switch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let signals = sys::termination_signals()?;
    let mut switch = Switch::open(args)?;
    println!("READY");

    let readable = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut descriptors: Vec<_> = switch
        .ports
        .iter()
        .map(|port| readable(port.file.as_raw_fd()))
        .collect();
    descriptors.push(readable(signals.as_raw_fd()));
    loop {
        sys::poll(&mut descriptors, switch.timeout_ms())?;
        let Some((stop, ports)) = descriptors.split_last() else {
            break;
        };
        if stop.revents != 0 {
            break;
        }
        for (index, descriptor) in ports.iter().enumerate() {
            if descriptor.revents != 0 {
                switch.serve(index);
            }
        }
        switch.release_held();
    }
    for port in &switch.ports {
        eprintln!(
            "vlan-switch: {}: received {}, sent {}, not sent {}",
            port.label, port.received, port.sent, port.failed
        );
    }
    let dealt = switch.impairment.dealt();
    eprintln!(
        "vlan-switch: lost {}, duplicated {}, held {}",
        dealt.lost, dealt.duplicated, dealt.held
    );
    Ok(())
}

impl Switch {
    fn open(args: &Args) -> io::Result<Self> {
        let mut ports = Vec::new();
        let explain = |kind: &str, dev: &str, error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot open {kind} port {dev}: {error}"),
            )
        };
        for spec in &args.trunk {
            let netns = spec.netns.as_deref();
            let file = sys::in_netns(netns, || sys::open_packet_socket(&spec.dev))
                .map_err(|error| explain("trunk", &spec.dev, error))?;
            ports.push(Port::new(netns, &spec.dev, spec.membership.clone(), file));
        }
        for spec in &args.access {
            let netns = spec.netns.as_deref();
            let file = sys::in_netns(netns, || sys::open_tap(&spec.dev, spec.mac, spec.mtu))
                .map_err(|error| explain("access", &spec.dev, error))?;
            ports.push(Port::new(
                netns,
                &spec.dev,
                Membership::Access(spec.vlan),
                file,
            ));
        }
        let rates = Rates {
            loss: args.loss,
            duplicate: args.duplicate,
            reorder: args.reorder,
        };
        Ok(Self {
            fabric: Fabric::new(ports.iter().map(|port| port.membership.clone()).collect()),
            ports,
            impairment: Impairment::new(rates, args.seed),
            buffer: vec![0; BUFFER],
            egress: Vec::new(),
        })
    }

    /// How long poll may sleep without making a held frame wait too long.
    fn timeout_ms(&self) -> i32 {
        let Some(deadline) = self.impairment.next_deadline() else {
            return -1;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, lest the loop spins through the last millisecond.
        i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
    }

    /// Takes up to a batch of frames from a port and forwards them.
    fn serve(&mut self, ingress: usize) {
        for _ in 0..BATCH {
            let Ok((len, stripped)) = self.ports[ingress].receive(&mut self.buffer) else {
                return;
            };
            self.ports[ingress].received += 1;
            let Some(frame) = Frame::parse(&self.buffer[..len], stripped) else {
                continue;
            };
            let tags = match self.ports[ingress].membership {
                // A station of an access port has no business with tags: such frames go no further.
                Membership::Access(vlan) if frame.tags == Tags::default() => vlan.into(),
                Membership::Access(_) => continue,
                Membership::Trunk(_) => frame.tags,
            };
            self.fabric.forward(
                ingress,
                tags.vlan(),
                frame.source(),
                frame.destination(),
                &mut self.egress,
            );
            for &egress in &self.egress {
                let port = &mut self.ports[egress];
                let tags = port.tags(tags);
                match self.impairment.fate() {
                    Fate::Send => frame.emit(tags, |slices| port.send(slices)),
                    Fate::Duplicate => frame.emit(tags, |slices| {
                        port.send(slices);
                        port.send(slices);
                    }),
                    Fate::Hold(overtakers) => {
                        let bytes = frame.emit(tags, |slices| {
                            slices.iter().flat_map(|s| s.iter().copied()).collect()
                        });
                        self.impairment
                            .hold(egress, bytes, overtakers, Instant::now());
                        continue;
                    }
                    Fate::Lose => continue,
                }
                self.impairment.overtaken(egress);
            }
        }
    }

    fn release_held(&mut self) {
        if self.impairment.next_deadline().is_none() {
            return;
        }
        while let Some((port, bytes)) = self.impairment.pop_due(Instant::now()) {
            self.ports[port].send(&[IoSlice::new(&bytes)]);
        }
    }
}
