"""Stateless UDP flows through tmm, one way, for docs/benchmarking.md.

Start TRex with `./t-rex-64 -i -c 4`, then in trex-console:
    start -f stl_udp.py -p 0 -m 1mpps -d 60 -t size=64,flows=60000
A stream of 1,000 frames a second carries the latency stamps; it is a flow of its own. TRex tells latency streams by the
IPv4 identification and by their payload, both of which tmm leaves alone.
"""

import argparse

from trex.stl.api import (
    Ether, IP, UDP, STLFlowLatencyStats, STLPktBuilder, STLScVmRaw, STLStream, STLTXCont,
    STLVmFixIpv4, STLVmTupleGen, STLVmWrFlowVar,
)


class Requests:
    """Requests of many clients to one virtual server."""

    @staticmethod
    def frame(size, source, port):
        head = Ether() / IP(src=source, dst="203.0.113.10") / UDP(sport=port, dport=7, chksum=0)
        # TRex adds the check sequence.
        return head / ("x" * max(0, size - 4 - len(head)))

    def get_streams(self, tunables, **kwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--size", type=int, default=64, help="octets with the check sequence")
        parser.add_argument("--flows", type=int, default=60_000)
        args = parser.parse_args(tunables)
        # The checksum of UDP is left out (0): the addresses change from frame to frame.
        clients = STLScVmRaw([
            STLVmTupleGen(name="client", ip_min="10.1.0.1", ip_max="10.1.0.250",
                          port_min=1024, port_max=65535, limit_flows=args.flows),
            STLVmWrFlowVar(fv_name="client.ip", pkt_offset="IP.src"),
            STLVmWrFlowVar(fv_name="client.port", pkt_offset="UDP.sport"),
            STLVmFixIpv4(offset="IP"),
        ])
        load = STLPktBuilder(pkt=self.frame(args.size, "10.1.0.1", 1024), vm=clients)
        probe = STLPktBuilder(pkt=self.frame(max(args.size, 68), "10.1.1.1", 1024))
        return [
            STLStream(packet=load, mode=STLTXCont()),
            STLStream(packet=probe, mode=STLTXCont(pps=1000), flow_stats=STLFlowLatencyStats(pg_id=1)),
        ]


def register():
    return Requests()
