"""[log]: where the log goes, how it looks, and how much of it is written."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from smtpproxy.config.about import about
from smtpproxy.config.values import LogTo

Level = Literal["debug", "info", "warning", "error", "off"]
AreaLevel = Literal["", "debug", "info", "warning", "error", "off"]


class LogLevels(Struct, frozen=True, kw_only=True):
    """Levels of single areas; empty for that of [log]. docs/operating.md says which event belongs to which area."""

    mail: Annotated[AreaLevel, about("Messages, and what is refused.")] = ""
    session: Annotated[AreaLevel, about("Connections. debug: every command and every reply.")] = ""
    handoff: Annotated[AreaLevel, about("Upstreams and what is kept.")] = ""
    rules: Annotated[AreaLevel, about("Rules: versions, failures, what they log themselves.")] = ""
    server: Annotated[AreaLevel, about("Processes, configuration, certificates.")] = ""


class Log(Struct, frozen=True, kw_only=True):
    """One line for each message and each session, and for whatever else happens."""

    to: Annotated[
        LogTo, about('"stdout", "syslog" (or "syslog:/path" for another socket than /dev/log) or the path of a file.')
    ] = LogTo("stdout")
    format: Annotated[Literal["logfmt", "json"], about("logfmt: name=value pairs. json: an object a line.")] = "logfmt"
    level: Annotated[Level, about("The least level that is written.")] = "info"
    levels: Annotated[LogLevels, about("Levels of single areas.")] = LogLevels()
