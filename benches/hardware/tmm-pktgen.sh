#!/usr/bin/env bash
# The test of docs/benchmarking.md with tmm-pktgen: the sizes of RFC 2544, the highest rate without loss, latency at
# half and at nine tenths of it. PCI addresses and CPU come from the environment.
set -euo pipefail
: "${CLIENT_PCI:?PCI address of the port towards tmm port 1.1, such as 0000:5e:00.0}"
: "${SERVER_PCI:?PCI address of the port towards tmm port 1.2, such as 0000:5e:00.1}"
exec "${TMM_PKTGEN:-tmm-pktgen}" \
    --client "pci:$CLIENT_PCI" --client-vlan 100 --client-address 192.0.2.2 --gateway 192.0.2.1 \
    --server "pci:$SERVER_PCI" --server-vlan 200 \
    --clients 10.1.0.0/16 --to 203.0.113.10:7 --member 198.51.100.11:7007 --snat 198.51.100.1 \
    --flows "${FLOWS:-60000}" --order random --open-rate 200kpps \
    --size rfc2544 --search --duration 60s --drain 2s --loads 50,90 \
    --hugepages required --cpu "${CPU:-2}" \
    --json=report.json --plot plots "$@"
