"""`smtpproxy try`: the whole way of a message without any configuration, each message's story on the console."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from smtpproxy.cli.instance import harmless_rules
from smtpproxy.config.schema import Config, Handoff, Listener, Log, Relaying, Scripts
from smtpproxy.config.values import Domains, Endpoint, Hostname, LogTo, Networks, Target

PORT = 2525
LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("try", help="run without any configuration and print each message's story")
    parser.add_argument("--port", type=int, default=PORT, help=f"on 127.0.0.1 (default {PORT}; 0 lets the system choose)")
    parser.add_argument("--scripts", type=Path, metavar="FOLDER", help="rules to run (default: scripts, here or shipped)")
    parser.add_argument("--data", type=Path, default=Path(".try"), metavar="FOLDER", help="what is kept (default .try)")


def run(args: argparse.Namespace) -> int:
    from smtpproxy.server.worker import Refused, Worker

    data: Path = args.data.absolute()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    scripts = _scripts(args.scripts, data)
    with _upstream(data / "upstream") as port, (data / "stories.log").open("a", encoding="utf-8", errors="replace") as file:
        config = _config(args.port, port, scripts, data)
        try:
            worker = Worker(config, story=_teller(file), notify=lambda line: print(line, flush=True), console=_console)
            worker.start()
            _say_what_next(worker.addresses()[0], scripts, data)
            return worker.wait()
        except Refused as refused:
            print(f"smtpproxy: {refused}; --port chooses another one", file=sys.stderr)
            return 1


def _config(port: int, upstream: int, scripts: Path, data: Path) -> Config:
    return Config(
        hostname=Hostname("try.localhost"),
        data=data,
        listener={"try": Listener(bind=(Endpoint("127.0.0.1", port),), handoff="upstream", xclient_from=LOOPBACK)},
        handoff={"upstream": Handoff(kind="proxy", to=(Target("smtp", "127.0.0.1", upstream),), identity="xclient")},
        relaying=Relaying(domains=Domains(["example.com"])),
        scripts=Scripts(folder=scripts),
        log=Log(to=LogTo(str(data / "smtpproxy.log"))),
    )


def _scripts(asked: Path | None, data: Path) -> Path:
    """The folder of rules: the one asked for, ./scripts, or a copy of the shipped ones that can be edited."""
    if asked is not None:
        return asked.absolute()
    if Path("scripts").is_dir():
        return Path("scripts").absolute()
    folder = data / "scripts"
    folder.mkdir(exist_ok=True)
    for rule in harmless_rules():
        if not (folder / rule.name).exists():
            (folder / rule.name).write_bytes(rule.read_bytes())
    return folder


@contextmanager
def _upstream(folder: Path) -> Iterator[int]:
    """A sink in a process of its own; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "smtpproxy", "sink", "--keep", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield _port(process)
    finally:
        process.terminate()
        process.wait(10)


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line.startswith("listening on "):
            return int(line.split()[2].rpartition(":")[2])
        said.append(line)
    raise SystemExit("smtpproxy: the embedded upstream did not start:\n" + "".join(said))


def _teller(file: TextIO) -> Any:
    from smtpproxy.scripting.trace import Trace, story

    def tell(trace: Trace, mail: Any) -> None:
        text = "\n".join(story(trace, mail)) + "\n\n"
        print(text, end="", flush=True)
        file.write(text)
        file.flush()

    return tell


def _console(event: str, fields: dict[str, Any]) -> None:
    """What the author of a rule must see at once."""
    if event == "rule_live":
        print(f"rule {fields['rule']} is live, version {fields['version']}", flush=True)
    elif event == "rule_gone":
        print(f"rule {fields['rule']} is gone", flush=True)
    elif event == "rule_broken":
        kept = f"; version {fields['kept']} goes on" if fields.get("kept") else "; nothing runs in its place"
        print(f"{fields['at'] or fields['file']}: {fields['error']}{kept}", flush=True)
    elif event == "rule_failed":
        print(f"{fields['at']}: {fields['error']} (rule {fields['rule']}, verdict {fields['verdict']})", flush=True)


def _say_what_next(address: Endpoint, scripts: Path, data: Path) -> None:
    command = "smtpproxy" if os.path.basename(sys.argv[0]) == "smtpproxy" and _on_path() else sys.argv[0]
    port = f" --port {address.port}" if address.port != PORT else ""
    print(
        f"""
Mail for anybody@example.com is taken on {address} and handed to an upstream of its own.
In another terminal:
    {command} send --to you@example.com{port}
    {command} send --to nobody@example.com{port}      # refused by a rule
Edit a file in {scripts}, save it, and send again.
Stories: {data / "stories.log"}   messages that arrived: {data / "upstream"}   Ctrl-C ends it.
""",
        flush=True,
    )


def _on_path() -> bool:
    import shutil

    found = shutil.which("smtpproxy")
    return found is not None and os.path.samefile(found, sys.argv[0])
