"""A queue of a million mails: what taking one costs at the beginning and at the end, what a start takes, what the process holds.

    .venv/bin/python perf/million.py [--mails 1000000] [--folder FOLDER]

Mails of 4 KB, a thousand to a domain, are taken by the engine, 200 greenlets at a time as sessions would, and every call returns
behind its sync. Then the slot is closed and opened again in a process of its own, which leases 50,000
and puts them off. The folder is removed at the end.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gevent
from gevent.pool import Pool

from smtpproxy.message.rendering import with_crlf
from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Again
from smtpproxy.queue.sqlite import SqliteLedger

AT_ONCE = 200
STEPS = 10
PUT_OFF = 50_000
OF_A_DOMAIN = 1000
BODY = with_crlf(b"Subject: one of very many\n\n" + b"a line of the text, long enough\n" * 128)


def resident() -> int:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def take(ledger: SqliteLedger, number: int) -> None:
    draft = ledger.draft(f"m{number}")
    ledger.hold(draft, [BODY])
    to = Party(f"user{number}@d{number // OF_A_DOMAIN}.example")
    ledger.add(draft, Envelope(f"m{number}", time.time(), Party("news@client.example"), [to]))


def fill(folder: Path, mails: int) -> None:
    ledger = SqliteLedger(folder, time.time)
    pool = Pool(AT_ONCE)
    for step in range(STEPS):
        began, cpu = time.monotonic(), time.process_time()
        for number in range(step * mails // STEPS, (step + 1) * mails // STEPS):
            pool.spawn(take, ledger, number)
        pool.join()
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        each = mails // STEPS
        figures = f"{each / took:6,.0f}/s, {cpu / each * 1000:.3f} ms CPU each, {resident()} MB resident"
        print(f"{(step + 1) * each:9,} mails: {figures}", flush=True)
    ledger.close()


def reopen(folder: Path) -> None:
    """In a fresh process: the start, then leases that are put off again."""
    before, began = resident(), time.monotonic()
    ledger = SqliteLedger(folder, time.time)
    started = time.monotonic() - began
    slowest, leased, began = 0.0, 0, time.monotonic()
    while leased < PUT_OFF:
        asked = time.monotonic()
        if not (found := ledger.lease(100)):
            break
        slowest = max(slowest, time.monotonic() - asked)
        leased += len(found)
        gevent.joinall([gevent.spawn(ledger.record, entry, [], Again(time.time() + 3600)) for entry in found])
    took = time.monotonic() - began
    print(f"start {started:.2f} s; {before} MB resident before, {resident()} MB after")
    print(f"leased and put off {leased / took:,.0f}/s, the slowest lease {slowest * 1000:.0f} ms")
    ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A queue of very many mails")
    parser.add_argument("--mails", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--reopen", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reopen:
        reopen(args.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="smtpproxy-million-", dir=args.folder)) / "0"
    try:
        fill(folder, args.mails)
        subprocess.run([sys.executable, __file__, "--reopen", "--folder", str(folder)], check=True)
    finally:
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
