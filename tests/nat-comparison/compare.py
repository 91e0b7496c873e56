#!/usr/bin/python3
"""The same packets through Linux nftables NAT and through tmm, in network namespaces.

Writes docs/comparison.md; with --check it fails if it would be another. Each case sends frames by raw
sockets from hosts that have no IP stack of their own, so nothing but the box in the middle answers, and
notes in a few words what came out of it. tmm has TAP devices, which hand it each frame as it was sent.
Where the boxes differ, EXPLAINED says why; a difference without a reason fails the run. Needs root, nft,
ip, scapy, and tmm and tmmctl in the directory --bin. Ends by itself, and leaves nothing behind.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading

# Nothing is left in the tree.
sys.dont_write_bytecode = True
from boxes import OURS, STOP, Mapped, Nftables, Stopped, Tmm  # noqa: E402
from cases import CASES, EXPLAINED  # noqa: E402

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/comparison.md")
BOXES = {"nft": Nftables, "tmm": Tmm, "eim": Mapped}

HEAD = """# tmm and the kernel's NAT, case by case

Made by `make nat-comparison`: the same packets through three boxes, in network namespaces. Hosts are raw sockets, so
nothing answers but the box. A difference without a reason fails.

- **nftables**: masquerade of what leaves, `dnat` of a virtual address, and a forward chain that takes what comes from inside, what is
  translated to a server inside, and what is established or related.
- **tmm**: an `F5SPKEgress` with automap, and `F5SPKIngressUDP` with automap for the virtual address.
- **tmm, mappings**: an `F5SPKEgress` with a SNAT pool, `natMapping: ENDPOINT_INDEPENDENT` and `natFiltering: ENDPOINT_INDEPENDENT`, the most
  open it can be. nftables has nothing like it.

tmm has TAP devices here, which hand it every frame as it was sent. The ids are those of [tests/cases.tsv](../tests/cases.tsv).

"""


def table(results):
    """The page, and the differences that nobody has given a reason for."""
    lines, unexplained = [], []
    for group in dict.fromkeys(case.group for case in CASES):
        lines += [f"## {group}", "", "| Case | Ids | nftables | tmm | tmm, mappings | |", "|---|---|---|---|---|---|"]
        for case in CASES:
            if case.group != group:
                continue
            found = [results[name][case.title] for name in BOXES]
            why = "the same"
            if len(set(found)) > 1:
                why = EXPLAINED.get(case.title, "")
                if not why:
                    unexplained.append(f"{case.title}: nftables {found[0]}, tmm {found[1]}, with mappings {found[2]}")
            lines.append(f"| {case.title} | {case.ids} | {' | '.join(found)} | {why} |")
        lines.append("")
    stale = [
        title
        for title in EXPLAINED
        if title not in {case.title for case in CASES} or len({results[name][title] for name in BOXES}) == 1
    ]
    return HEAD + "\n".join(lines[:-1]) + "\n", unexplained, stale


def through(name, kind, directory, only, results, failures):
    """All cases through one box."""
    try:
        box = kind(name, directory)
        try:
            box.open()
            for case in CASES:
                if only and only not in case.title:
                    continue
                try:
                    results[case.title] = case.test(box)
                except (IndexError, TypeError):
                    results[case.title] = "nothing came"
                sys.stderr.write(f"{name}: {case.title}: {results[case.title]}\n")
                sys.stderr.flush()
        finally:
            box.close()
    except Stopped:
        pass
    except Exception as failure:  # pylint: disable=broad-except
        failures.append(f"{name}: {failure!r}")
        STOP.set()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="where tmm and tmmctl are")
    parser.add_argument("--check", action="store_true", help="compare with the page instead of writing it")
    parser.add_argument("--only", help="just the cases with this in their title, printed")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("it makes network namespaces and TAP devices: run it as root")
    Tmm.programs = options.bin
    results, failures = {name: {} for name in BOXES}, []
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    signal.signal(signal.SIGINT, lambda *_: STOP.set())
    with tempfile.TemporaryDirectory(prefix=f"{OURS}-") as directory:
        threads = [
            threading.Thread(target=through, args=(name, kind, directory, options.only, results[name], failures))
            for name, kind in BOXES.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        sys.exit("\n".join(failures))
    if STOP.is_set():
        sys.exit("stopped; nothing was written")
    if options.only:
        print(json.dumps(results, indent=2))
        return
    page, unexplained, stale = table(results)
    if unexplained:
        sys.exit("differences without a reason (EXPLAINED in tests/nat-comparison/cases.py):\n  " + "\n  ".join(unexplained))
    if stale:
        sys.exit("reasons for what is no difference (any more):\n  " + "\n  ".join(stale))
    if options.check:
        with open(PAGE, encoding="utf-8") as committed:
            if committed.read() != page:
                sys.exit("docs/comparison.md is not what was found: make nat-comparison, and look at the difference")
        print(f"{len(CASES)} cases: as in docs/comparison.md")
    else:
        with open(PAGE, "w", encoding="utf-8") as out:
            out.write(page)
        differ = sum(len({results[name][case.title] for name in BOXES}) > 1 for case in CASES)
        print(f"{len(CASES)} cases, {differ} of them different and explained: docs/comparison.md")


if __name__ == "__main__":
    main()
