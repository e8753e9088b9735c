"""A hundred rules on every hook against ten plugins a hook in Haraka, on the same load (workload W8 of ../shared/bench).

Every rule has a trivial function for connect, EHLO, MAIL, RCPT and the message; so has every plugin. CPU a message of all
processes of a server (user and system, /proc), in interleaved rounds: what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from whole import BENCH, ROOT

RULES, PLUGINS = 100, 10
SERVERS = ("project", "project-nohooks", "haraka", "haraka-nohooks")
START = f"""#!/bin/bash
[ "$BENCH_HOOKS" = 0 ] || export BENCH_HOOKS={RULES}
exec bash {BENCH / "project.sh"}
"""


def measured(rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """The rounds of each server, as bench.py writes them."""
    with tempfile.TemporaryDirectory() as folder:
        start, output = Path(folder) / "start.sh", Path(folder) / "rounds.json"
        start.write_text(START)
        command = [
            sys.executable, str(BENCH / "bench.py"), "-w", "W8", "-s", "project,haraka",
            "-r", str(rounds), "-T", str(seconds), "-o", str(output),
        ]  # fmt: skip
        env = {
            **os.environ, "PROJECT_DIR": str(ROOT), "PROJECT_CMD": f"bash {start}", "BENCH_HOOKS": str(PLUGINS),
            "SMTPPROXY": str(Path(sys.executable).with_name("smtpproxy")),
        }  # fmt: skip
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
        found: dict[str, list[dict[str, Any]]] = json.loads(output.read_text())["results"]["W8"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", type=int, default=5, help="rounds")
    parser.add_argument("-T", type=float, default=8.0, help="seconds a round")
    args = parser.parse_args()
    found = measured(args.r, args.T)
    cpu = {name: [each["cpu_ms"] for each in found[name]] for name in SERVERS}
    for name, rounds in cpu.items():
        print(f"{name:16} {statistics.median(rounds):.3f} ms CPU a message  ({min(rounds):.3f} to {max(rounds):.3f})")
    ratios = [ours / theirs for ours, theirs in zip(cpu["project"], cpu["haraka"], strict=True)]
    print(f"{RULES} rules cost {statistics.median(ratios):.2f} of Haraka's {PLUGINS} plugins, all in all")


if __name__ == "__main__":
    main()
