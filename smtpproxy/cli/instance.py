"""What commands that need an instance have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

import smtpproxy
from smtpproxy.config.load import load
from smtpproxy.config.schema import Config


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds --config."""
    parser.add_argument(
        "--config",
        metavar="FILE-OR-FOLDER",
        type=Path,
        default=Path(),
        help="the configuration: a file, or a folder of *.toml files (default: the current folder)",
    )


def read(args: argparse.Namespace) -> Config:
    """The configuration that --config names. Raises ConfigErrors, which main prints."""
    return load(args.config)


def harmless_rules() -> list[Path]:
    """The rules that come with the product: inside an installed package, beside it in a checkout."""
    package = Path(smtpproxy.__file__).parent
    folder = package / "scripts" if (package / "scripts").is_dir() else package.parent / "scripts"
    return sorted(file for suffix in ("py", "lua") for file in folder.glob(f"*.{suffix}"))
