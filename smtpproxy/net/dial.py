"""To a server by its name, its address or the path of its socket."""

from __future__ import annotations

from ipaddress import ip_address

from gevent import socket

from smtpproxy.net.connection import Connection, connect


def dial(host: str, port: int, path: str, timeout: float) -> Connection:
    """Connect to the unix socket at ``path``, else to ``host`` and ``port``: each address of a name in turn.

    ``timeout`` in seconds is for each address. Raises OSError (``Expired`` among them).
    """
    if path:
        return connect(path, timeout)
    failure: OSError = OSError("no address")
    for address in _addresses(host, port):
        try:
            return connect((address, port), timeout)
        except OSError as error:
            failure = error
    raise failure


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]
