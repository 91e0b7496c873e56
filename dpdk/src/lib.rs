//! A safe layer over DPDK: EAL, mempools, mbufs, Ethernet ports and queues.
