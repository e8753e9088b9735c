"""What a message costs the whole server: CPU of its process tree (user and system, /proc), per message. Run by `make perf`.

With the side-by-side harness (../shared/bench, or $SMTPPROXY_SHARED/bench, set up in $BENCH_DIR) the same work goes to
Haraka and Postfix in interleaved rounds; the ratio in one run counts, as absolute figures drift with the machine.
Elsewhere `smtp-source` sends to us and, where there is no upstream, to `smtp-sink` (the floor, in C) in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sink import Server, cpu_seconds, our_server, smtp_sink

ROOT = Path(__file__).resolve().parent.parent
BENCH = Path(os.environ.get("SMTPPROXY_SHARED", ROOT.parent / "shared")) / "bench"
PEERS_DIR = Path(os.environ.get("BENCH_DIR", Path(tempfile.gettempdir()) / "smtpbench"))
HOOKS = 50
CALLS_PER_MESSAGE = HOOKS * (3 + 2 / 100)  # on_mail, on_rcpt, on_message each time, on_connect and on_ehlo every hundredth


class Work(NamedTuple):
    """What is done; the most it may cost as a share of Haraka's cost, the aim in ms (s/GB for 5 MB messages)."""

    title: str
    ratio: float
    aim: str
    source: str = ""
    """Arguments of smtp-source(1), which cannot pipeline."""
    upstream: bool = False
    octets: int = 4096


WORK = {
    "W1": Work("accept, 1 a connection", 0.35, "0.25", "-s 50"),
    "W2": Work("accept, 100 a connection", 0.40, "0.10", "-d -s 20"),
    "W2P": Work("accept, pipelined", 0.20, "0.07"),
    "W3": Work("accept, 5 MB, s/GB", 0.50, "4.5", "-s 4", octets=5_000_000),
    "W4": Work("proxied, 1 a connection", 0.40, "< Postfix", "-s 20", upstream=True),
    "W4N": Work("proxied, 20 a connection", 0.25, "0.35", "-d -s 20", upstream=True),
    "W4L": Work("proxied, 5 MB, s/GB", 0.10, "3.2", "-s 4", upstream=True, octets=5_000_000),
}
STALL_MS = 10.0
HOOK_US = 1.0


# -- beside Haraka and Postfix -------------------------------------------------------------------------------------------


def beside_peers(works: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Rounds by workload and server, as bench.py writes them."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rounds.json"
        command = [
            sys.executable, str(BENCH / "bench.py"), "-w", ",".join(works), "-s", "project,haraka,postfix",
            "-r", str(rounds), "-T", str(seconds), "-o", str(output),
        ]  # fmt: skip
        env = {
            **os.environ, "PROJECT_DIR": str(ROOT), "PROJECT_CMD": f"bash {BENCH / 'project.sh'}",
            "SMTPPROXY": str(Path(sys.executable).with_name("smtpproxy")), "BENCH_HOOKS": str(HOOKS),
        }  # fmt: skip
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
        results: dict[str, Any] = json.loads(output.read_text())["results"]
    return results


def peer_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    yield ["workload", "", "ours", "Haraka", "Postfix", "ratio", "must be", "aim", "p99 ms", "errors", ""]
    for name, work in WORK.items():
        servers = results.get(name) or {}
        if "project" not in servers:
            continue
        ours = servers["project"]
        ratio = paired(ours, servers.get("haraka"), "cpu_ms")
        p99 = median(ours, "lat_p99")
        errors = sum(one["errors"] + one["conn_errors"] for one in ours)
        good = ratio is not None and ratio <= work.ratio and not errors and (name != "W2P" or p99 <= STALL_MS)
        costs = [cost(servers.get(server), work) for server in ("project", "haraka", "postfix")]
        met = "-" if ratio is None else "met" if good else "MISSED"
        share = "-" if ratio is None else f"{ratio:.2f}"
        yield [name, work.title, *costs, share, f"<= {work.ratio}", work.aim, f"{p99:.1f}", str(errors), met]
    if "project-nohooks" in (results.get("W8") or {}):
        ours, haraka = (hook_us(results["W8"], server) for server in ("project", "haraka"))
        row = [f"{ours:.2f} us", f"{haraka:.2f} us", "-", f"{ours / haraka:.2f}" if haraka > 0 else "-", f"<= {HOOK_US:g} us"]
        yield ["W8", "one trivial hook call", *row, "0.3 us", "-", "0", "met" if ours <= HOOK_US else "MISSED"]


def hook_us(servers: dict[str, Any], server: str) -> float:
    """With the hooks less without them, round by round."""
    pairs = zip(servers.get(server, []), servers.get(f"{server}-nohooks", []), strict=False)
    costs: list[float] = [(a["cpu_ms"] - b["cpu_ms"]) * 1000 / CALLS_PER_MESSAGE for a, b in pairs]
    return statistics.median(costs) if costs else float("nan")


def paired(ours: list[Any], theirs: list[Any] | None, key: str) -> float | None:
    """The median of the rounds' ratios: what drifts between rounds falls out."""
    return statistics.median(a[key] / b[key] for a, b in zip(ours, theirs, strict=False)) if theirs else None


def median(rounds: list[Any], key: str) -> float:
    values: list[float] = [one[key] for one in rounds]
    return statistics.median(values)


def cost(rounds: list[Any] | None, work: Work) -> str:
    """CPU in ms a message, or in s a GB (which is the same number for 1 MB)."""
    return "-" if not rounds else f"{median(rounds, 'cpu_ms') * (1e6 / work.octets if work.octets > 1e6 else 1):.3g}"


# -- alone ---------------------------------------------------------------------------------------------------------------


def alone(works: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """As above, measured with Postfix's own test programs."""
    results: dict[str, Any] = {}
    for name in works:
        if name in WORK and WORK[name].source:
            print(f"{name}: {WORK[name].title}", file=sys.stderr)
            results[name] = one_workload(WORK[name], rounds, seconds)
    return results


def one_workload(work: Work, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    with tempfile.TemporaryDirectory() as folder, our_server(Path(folder), work.upstream) as ours, smtp_sink() as floor:
        servers = {"project": ours} if work.upstream else {"project": ours, "smtp-sink": floor}
        warm = {name: measure(server, work, 20 if work.octets > 1e6 else 500) for name, server in servers.items()}
        counts = {name: max(20, int(seconds / one["wall"] * one["messages"])) for name, one in warm.items()}
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                taken[name].append(measure(server, work, counts[name]))
        return taken


def measure(server: Server, work: Work, messages: int) -> dict[str, float]:
    """Send that many messages; raises CalledProcessError when one is not taken."""
    options = [*work.source.split(), "-l", str(work.octets), "-m", str(messages), "-f", "a@example.com", "-t", "b@example.com"]
    before, began = cpu_seconds(server.pid), time.monotonic()
    subprocess.run(["smtp-source", *options, f"127.0.0.1:{server.port}"], check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    return {"messages": messages, "wall": wall, "cpu_ms": (cpu_seconds(server.pid) - before) * 1000 / messages}


def alone_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    yield ["workload", "", "ours", "smtp-sink", "ratio", "aim"]
    for name, servers in results.items():
        ratio = paired(servers["project"], servers.get("smtp-sink"), "cpu_ms")
        costs = [cost(servers.get(server), WORK[name]) for server in ("project", "smtp-sink")]
        yield [name, WORK[name].title, *costs, "-" if ratio is None else f"{ratio:.2f}", WORK[name].aim]


# -- the report ----------------------------------------------------------------------------------------------------------


def print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of the whole server per message")
    parser.add_argument("-w", default=",".join([*WORK, "W8"]), help="workloads (default: all)")
    parser.add_argument("-r", type=int, default=3, help="interleaved rounds; medians are shown")
    parser.add_argument("-T", type=float, default=2.5, help="seconds of load in a round")
    parser.add_argument("--alone", action="store_true", help="smtp-source even where the harness is there")
    chosen = parser.parse_args()
    peers = not chosen.alone and (BENCH / "bench.py").exists() and (PEERS_DIR / "bin" / "smtpload").exists()
    load = os.getloadavg()[0]
    results = (beside_peers if peers else alone)(chosen.w.split(","), chosen.r, chosen.T)
    print(f"\nCPU of the server's processes, ms a message; load of the machine before the run {load:.1f}\n")
    print_table(list(peer_rows(results) if peers else alone_rows(results)))
    output = ROOT / "perf" / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps({"arguments": vars(chosen), "load": load, "peers": peers, "results": results}, indent=1))


if __name__ == "__main__":
    main()
