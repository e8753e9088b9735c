"""`smtpproxy serve`: serve an instance in the foreground."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from smtpproxy.cli.instance import add_config, place, read


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="serve an instance, in the foreground")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    from smtpproxy.server.refused import Refused
    from smtpproxy.server.serve import serve

    try:
        return serve(place(args), read(args))
    except Refused as refused:
        print(f"smtpproxy: {refused}", file=sys.stderr)
        return 1
