"""[limits]: what a client may use up."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from smtpproxy.config.about import Count, about
from smtpproxy.config.values import Duration, Size


class LimitTimeouts(Struct, frozen=True, kw_only=True):
    """How long a client may take."""

    proxy: Annotated[Duration, about("For the PROXY header of a balancer.")] = Duration(3)
    tls: Annotated[Duration, about("For the TLS handshake.")] = Duration(30)
    command: Annotated[
        Duration, about("To send its next command, the whole line (RFC 5321 4.5.3.2.7); then 421.")
    ] = Duration(300)
    stress: Annotated[
        Duration,
        about("To send its next command, for those who come while nine tenths of [limits] connections are in use."),
    ] = Duration(10)
    greeting: Annotated[Duration, about("From the connection, or from the message before, to MAIL; then 421.")] = Duration(900)
    transaction: Annotated[Duration, about("From MAIL to DATA, all recipients together; then 421.")] = Duration(3600)
    data: Annotated[Duration, about("Between two blocks of a message; then 421.")] = Duration(180)
    data_grace: Annotated[
        Duration, about("A message that takes longer must have come with [limits] data_rate; else 421.")
    ] = Duration(300)
    session: Annotated[Duration, about("From the connection to its end; then 421.")] = Duration(0)
    drain: Annotated[Duration, about("To finish what it is doing when the server stops.")] = Duration(30)


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may use up, per machine. 0 is no limit."""

    connections: Annotated[Count, about("Connections at one time; then 421.")] = 5000
    connections_per_client: Annotated[Count, about("Connections at one time from one address; then 421.")] = 50
    message_size: Annotated[Size, about("Size of a message, announced in EHLO; then 552.")] = Size(50 << 20)
    connections_per_network: Annotated[
        Count,
        about(
            "Connections at one time from one network (IPv4: /24, IPv6: /64); then 421. "
            "It is never given less than connections_per_client."
        ),
    ] = 200
    data_rate: Annotated[
        Size, about("Octets a second in which a message must come, once [limits.timeouts] data_grace is over; then 421.")
    ] = Size(1 << 10)
    memory: Annotated[
        Size, about("Held by each worker for messages, their edits and rules in Lua; what comes then is told 452.")
    ] = Size(512 << 20)
    free_disk: Annotated[
        Size,
        about("Left free in the file system of the data folder, and half as much again as a message announces; else 452."),
    ] = Size(1 << 20)
    lag: Annotated[
        Duration,
        about("A worker that is so late with its work tells new clients 421 until it has been on time for two seconds."),
    ] = Duration(1)
    message_memory: Annotated[Size, about("Held in memory of a message; more goes to a file.")] = Size(1 << 20)
    recipients: Annotated[Count, about("Recipients of a message, announced in EHLO (RFC 9422); then 452.")] = 1000
    messages: Annotated[Count, about("Messages in a session, announced in EHLO (RFC 9422); then 421.")] = 0
    errors: Annotated[Count, about("Refused commands in a session; then 421.")] = 20
    unknown_commands: Annotated[Count, about("Unknown commands in a session; then 421.")] = 20
    junk_commands: Annotated[Count, about("NOOP, RSET, VRFY and HELP in a session; then 421.")] = 200
    auth_failures: Annotated[Count, about("Failed logins in a session; then 421.")] = 3
    auth_delay: Annotated[
        Duration,
        about(
            "Before a failed login is answered; twice as long with each further one from the address or for the name in ten "
            "minutes, up to 16 times."
        ),
    ] = Duration(1)
    line_length: Annotated[Size, about("Length of a command line; longer ones are refused with 500.")] = Size(4096)
    text_line_length: Annotated[Size, about("Length of a line of a message; then 554, never folded.")] = Size(64 << 10)
    header_size: Annotated[Size, about("Size of a message's header; then 554.")] = Size(256 << 10)
    header_fields: Annotated[Count, about("Fields of a message's header; then 554.")] = 1000
    header_field_size: Annotated[Size, about("Size of one of them, with its continuation lines; then 554.")] = Size(64 << 10)
    received: Annotated[Count, about("Received fields in a message before it counts as looping; then 554.")] = 100
    timeouts: Annotated[LimitTimeouts, about("How long a client may take.")] = LimitTimeouts()
