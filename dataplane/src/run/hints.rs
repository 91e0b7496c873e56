//! What to do about errors of the start that do not say so themselves.

use dpdk::{MemifRole, PortSpec};

/// What to do about an error of DPDK's own that names no cause.
pub fn hint(spec: &PortSpec, error: &dpdk::Error) -> &'static str {
    match (spec, error) {
        (
            PortSpec::AfXdp(_),
            dpdk::Error::Port {
                operation: "setting up a receive queue",
                ..
            },
        ) => {
            ". XDP must fit a frame into a page: set the MTU of the interface, and of both ends of \
             a veth pair, to 3000 octets or less. And the kernel locks packet memory: without \
             cap_ipc_lock, `ulimit -l` must be larger than that. Or use af_packet"
        }
        (
            PortSpec::Memif {
                role: MemifRole::Client,
                ..
            },
            dpdk::Error::Port {
                operation: "starting",
                ..
            },
        ) => ". A memif client needs its server: start the process with role=server first",
        (PortSpec::Raw(_), dpdk::Error::Attach { .. }) => {
            ". DPDK takes this for a virtual device: is the driver's name right, are its arguments, \
             and is its plugin (librte_net_….so) installed?"
        }
        _ => "",
    }
}

/// What to do about an error at the start that is no port's and names no cause.
pub fn start_hint(error: &dpdk::Error) -> &'static str {
    match error {
        dpdk::Error::EalInit { .. } => {
            "; an --eal-arg may be wrong, `--hugepages never` starts without hugepages, and `--log \
             debug` shows all that DPDK says"
        }
        dpdk::Error::NoHugepages { .. } => " (`--hugepages auto` or `never`)",
        dpdk::Error::Mempool { .. } => {
            "; --mbufs asks for fewer, a smaller --port-mtu for smaller ones"
        }
        dpdk::Error::Pin { .. } => "; --cpus (PAL_CPU_SET) says which CPUs the workers take",
        _ => "",
    }
}
