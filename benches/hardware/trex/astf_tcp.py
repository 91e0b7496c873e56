"""TCP connections through tmm, opened, used and closed by TRex's own stack, for docs/benchmarking.md.

    ./t-rex-64 --astf -f astf_tcp.py -m 20000 -d 60 -c 4 -l 1000 -t size=64,requests=1
"-m" is connections a second, for the profile offers one. What to look at: established connections, resets,
retransmissions and drops of both sides; errors must be 0.
"""

import argparse

from trex.astf.api import (
    ASTFAssociationRule, ASTFIPGen, ASTFIPGenDist, ASTFIPGenGlobal, ASTFProfile, ASTFProgram,
    ASTFTCPClientTemplate, ASTFTCPServerTemplate, ASTFTemplate,
)


class Connections:
    """Clients that ask a virtual server; the server of the template is the member behind it."""

    def get_profile(self, tunables, **kwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--size", type=int, default=64, help="octets of a request and of its reply")
        parser.add_argument("--requests", type=int, default=1, help="requests on one connection")
        args = parser.parse_args(tunables)
        client, server = ASTFProgram(), ASTFProgram()
        for _ in range(args.requests):
            client.send("q" * args.size)
            server.recv(args.size)
            server.send("a" * args.size)
            client.recv(args.size)
        addresses = ASTFIPGen(
            glob=ASTFIPGenGlobal(ip_offset="0.0.0.0"),
            dist_client=ASTFIPGenDist(ip_range=["10.1.0.1", "10.1.0.250"], distribution="seq"),
            dist_server=ASTFIPGenDist(ip_range=["203.0.113.10", "203.0.113.10"], distribution="seq"),
        )
        # Clients go to port 80 of the virtual server; what arrives is for port 8080 of the member.
        return ASTFProfile(
            default_ip_gen=addresses,
            templates=ASTFTemplate(
                client_template=ASTFTCPClientTemplate(program=client, ip_gen=addresses, port=80, cps=1),
                server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=8080)),
            ),
        )


def register():
    return Connections()
