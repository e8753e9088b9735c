"""`smtpproxy COMMAND`. Only the module of the command that was asked for is imported, so that help comes at once."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final, NamedTuple, NoReturn


class Command(NamedTuple):
    """A subcommand: the module that offers `add(subparsers)` and `run(args) -> int`, and whether it needs gevent."""

    module: str
    help: str
    gevent: bool = False


COMMANDS: Final[dict[str, Command]] = {
    "try": Command("try_it", "run without any configuration and print each message's story", gevent=True),
    "init": Command("init", "write a documented instance into a folder"),
    "check": Command("check", "say whether a configuration and its rules can be used"),
    "serve": Command("serve", "serve an instance, in the foreground", gevent=True),
    "rules": Command("rules", "show which rules run at which hook, and in which order"),
    "rules new": Command("rules_new", "write the beginnings of a rule"),
    "rules add": Command("rules_add", "copy a sample into the folder of rules"),
    "rollback": Command("rollback", "have an earlier version of a rule run"),
    "lint": Command("lint", "point out what is probably a mistake in rules"),
    "config": Command("config_why", "say what a setting is, and where that stands"),
    "test": Command("test_it", "run the tests of rules", gevent=True),
    "run": Command("run_it", "say what the rules would do with a message", gevent=True),
    "explain": Command("explain", "say why a mail was refused, and tell its story"),
    "quarantine": Command("quarantine", "look at mail that is kept in quarantine, release or delete it", gevent=True),
    "queue": Command("queue_it", "look at mail that waits to be delivered, try it now, hold or delete it", gevent=True),
    "user": Command("user", "add, change, delete and list those who may log in"),
    "send": Command("send", "send a message", gevent=True),
    "sink": Command("sink", "run a small upstream server that keeps the last messages", gevent=True),
}

LATER: Final = frozenset({"verify"})


def entry() -> NoReturn:
    """The console script."""
    command = COMMANDS.get(word_of(sys.argv[1:]))
    if command and command.gevent:
        from gevent import monkey  # before anything holds a piece of the standard library

        monkey.patch_all()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit status. Exits with 2 when the arguments make no sense."""
    word = word_of(arguments)
    if word and word not in COMMANDS:
        print(f"smtpproxy: {_unknown(word)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"smtpproxy.cli.{COMMANDS[word].module}") if word else None
    parser = _parser(word, module)
    args = parser.parse_args([word, *arguments[len(word.split()) :]] if word else arguments)
    if module is None:
        parser.print_help(sys.stderr)
        return 2
    return _run(module, args)


def word_of(arguments: Sequence[str]) -> str:
    """The subcommand's name, which may be of two words; or ""."""
    two = " ".join(arguments[:2])
    if two in COMMANDS:
        return two
    return arguments[0] if arguments and not arguments[0].startswith("-") else ""


def _parser(word: str, module: ModuleType | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smtpproxy", description="The scriptable front door for mail.")
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        if module and name == word:
            module.add(subparsers)
        else:
            subparsers.add_parser(name, help=command.help)
    return parser


def _run(module: ModuleType, args: argparse.Namespace) -> int:
    from smtpproxy.config.problem import ConfigErrors

    try:
        status: int = module.run(args)
        sys.stdout.flush()
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has gone; the interpreter would complain when it flushes
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _unknown(word: str) -> str:
    if word in LATER:
        return f'"{word}" comes with a later version'
    from smtpproxy.config.problem import did_you_mean

    return f'there is no command "{word}"; {did_you_mean(word, COMMANDS)}'


def _version() -> str:
    from smtpproxy import __version__

    return f"smtpproxy {__version__}"


if __name__ == "__main__":
    entry()
