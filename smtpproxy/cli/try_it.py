"""`smtpproxy try`: the whole way of a message without any configuration, each message's story on the console."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from smtpproxy.cli.instance import HERE, configured, harmless_rules, place, read, typed
from smtpproxy.config.log import Log
from smtpproxy.config.schema import Config, Handoff, Listener, Relaying, Scripts
from smtpproxy.config.values import Domains, Endpoint, Hostname, LogTo, Networks, Target

if TYPE_CHECKING:
    from smtpproxy.server import logs as server

PORT = 2525
DATA = Path(".try")
LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])


def add(subparsers: Any) -> None:
    words = "run without any configuration and print each message's story"
    parser = subparsers.add_parser("try", help=words, description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"on 127.0.0.1 (default {PORT}; 0 lets the system choose)")
    parser.add_argument("--scripts", type=Path, metavar="FOLDER", help="rules to run (default: scripts, here or shipped)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="what is kept (default .try)")


def run(args: argparse.Namespace) -> int:
    from smtpproxy.server import logs as server
    from smtpproxy.server.refused import Refused
    from smtpproxy.server.worker import Worker

    data: Path = args.data.absolute()
    if args.scripts is not None and not args.scripts.is_dir():
        print(f"smtpproxy try: there is no folder {args.scripts}", file=sys.stderr)
        return 1
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        scripts = _scripts(args.scripts, data)
        with _upstream(data / "upstream") as port, _open(data / "stories.log") as file:
            config = _config(args.port, port, scripts, data)
            log = server.Log(config.log, _console)
            worker = Worker(config, story=_teller(file, log), notify=lambda _: None, log=log)
            worker.start()
            _say(_next(worker.addresses()[0], scripts, data))
            return worker.wait()
    except Refused as refused:
        print(f"smtpproxy try: {refused}\n{typed()} try --port 0 takes a port that is free", file=sys.stderr)
    except OSError as wrong:
        print(f"smtpproxy try: {wrong}", file=sys.stderr)
    return 1


def instance(scripts: Path | None = None) -> Config:
    """The configuration of `try` in the current folder, for a look at it."""
    data = DATA.absolute()
    return _config(PORT, PORT, _scripts(scripts, data, copy=False), data)


def looked_at(args: argparse.Namespace) -> Config:
    """The configuration that --config names; without any in the current folder, that of `try`. Raises ConfigErrors."""
    return instance() if place(args) == HERE and not configured(HERE) else read(args)


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


def _scripts(asked: Path | None, data: Path, copy: bool = True) -> Path:
    """The folder of rules: the one asked for, ./scripts, or a copy of the shipped ones that can be edited."""
    if asked is not None:
        return asked.absolute()
    if Path("scripts").is_dir():
        return Path("scripts").absolute()
    folder = data / "scripts"
    if copy and not folder.is_dir():
        folder.mkdir(mode=0o755)
        for rule in harmless_rules():
            (folder / rule.name).write_bytes(rule.read_bytes())
    return folder


# -- the upstream ----------------------------------------------------------------------------------------------------


@contextmanager
def _upstream(folder: Path) -> Iterator[int]:
    """A sink in a process of its own; gives its port. It ends with this block, and with this process however that ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "smtpproxy", "sink", "--keep", str(folder), "--until-eof"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us: it must not go before what still runs through it
    )
    with process:
        try:
            yield _port(process)
        finally:
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line.startswith("listening on "):
            return int(line.split()[2].rpartition(":")[2])
        said.append(line)
    raise OSError("the embedded upstream did not start:\n" + "".join(said).rstrip())


# -- what is told ----------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    """On the console, at once; a console that has gone away is no reason to stop."""
    with suppress(OSError):
        print(text, flush=True)


def _open(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8", errors="replace")


def _teller(file: TextIO, log: server.Log) -> Callable[[Any, Any], None]:
    from smtpproxy.scripting.trace import Trace, story

    def tell(trace: Trace, mail: Any) -> None:
        text = log.hide("\n".join(story(trace, mail))) + "\n"
        _say(text)
        file.write(text + "\n")
        file.flush()

    return tell


def _console(event: str, fields: dict[str, Any]) -> None:
    """What the author of a rule must see at once."""
    words = _EVENTS.get(event)
    if words is not None:
        _say(words(fields))


def _broken(fields: dict[str, Any]) -> str:
    told = f"{fields['at'] or fields['file']}: {fields['error']}"
    kept = fields["kept"]
    if kept is None:
        return told
    return f"{told}\n    {f'the version before it goes on ({kept})' if kept else 'nothing runs in its place'}"


_EVENTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "listening": lambda fields: f"listening on {fields['address']} ({fields['listener']})",
    "rule_live": lambda fields: f"rule {fields['rule']} is live, version {fields['version']}",
    "rule_gone": lambda fields: f"rule {fields['rule']} is gone",
    "rule_broken": _broken,
    "rule_failed": lambda fields: (
        f"{fields['at']}: {fields['error']} (rule {fields['rule']}, {fields['hook']}"
        + (f", verdict {fields['verdict']})" if "verdict" in fields else ")")
    ),
    "rule_parked": lambda fields: f"{fields['at']}: {fields['error']} (rule {fields['rule']}, {fields['hook']})",
    "rule_tripped": lambda fields: (
        f"rule {fields['rule']} is taken out: {fields['why']}; "
        + (f"version {fields['back']} comes back" if fields["back"] else f"it is tried again in {fields['retry']}")
    ),
    "rule_restored": lambda fields: f"rule {fields['rule']} is tried again",
    "hub_stalled": lambda fields: (
        f"everybody waited {fields['ms']} ms for {fields.get('rule') or 'the server'} at {fields.get('at')}"
    ),
    "rule": lambda fields: f"rule {fields['rule']}: {fields['text']}",
    "handoff_failed": lambda fields: f"upstream: {fields['cause']}",
    "internal_error": lambda fields: str(fields["trace"]),
}


def _next(address: Endpoint, scripts: Path, data: Path) -> str:
    send = f"{typed()} send" + (f" --port {address.port}" if address.port != PORT else "")
    return f"""
Mail for anybody@example.com is taken on {address} and handed to an upstream of its own.
In another terminal, from this folder:
    {send} --to you@example.com
    {send} --to nobody@example.com      # refused by a rule
Then edit a file in {_short(scripts)}, save it, and send again.
Stories: {_short(data / "stories.log")}   messages that arrived: {_short(data / "upstream")}   Ctrl-C ends it.
"""


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
