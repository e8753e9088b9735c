"""Listening sockets: bound here, or received from systemd or from the master before this one."""

from __future__ import annotations

import _socket
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from smtpproxy.config.schema import Config, Listener
from smtpproxy.config.values import Endpoint
from smtpproxy.server.refused import Refused

Key = tuple[str, Endpoint]
"""A listener's name and one of its addresses as the configuration has it; its port may be 0."""

Sockets = dict[Key, _socket.socket]

BACKLOG: Final = 1024
FIRST_PASSED: Final = 3
HANDED_OVER: Final = "SMTPPROXY_SOCKETS"


def bind_path(path: str, mode: int, owner: str) -> _socket.socket:
    """A listening socket in the file system; one that nobody listens on any more gives way. Raises OSError, LookupError."""
    user, _, group = owner.partition(":")
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else's before it is as it should be
    try:
        _give_way(path)
        sock.bind(path)
        os.chown(path, pwd.getpwnam(user).pw_uid if user else -1, grp.getgrnam(group).gr_gid if group else -1)
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _give_way(path: str) -> None:
    """Remove a socket that a process has left behind; raises OSError when somebody listens there, or it is something else."""
    if not os.path.lexists(path):
        return
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        error = probe.connect_ex(path)
    finally:
        probe.close()
    if error != errno.ECONNREFUSED or not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def bind(endpoint: Endpoint) -> _socket.socket:
    """A listening socket; raises OSError."""
    family = _socket.AF_INET6 if ":" in endpoint.host else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((endpoint.host, endpoint.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def address(sock: _socket.socket) -> Endpoint:
    """Where it listens, the port as the system chose it."""
    if sock.family == _socket.AF_UNIX:
        return Endpoint("", 0, sock.getsockname())
    return Endpoint(*sock.getsockname()[:2])


def wanted(config: Config) -> list[Key]:
    return [(name, endpoint) for name, listener in config.listener.items() for endpoint in listener.bind]


def open_missing(config: Config, held: Mapping[Key, _socket.socket]) -> Sockets:
    """Bind what is not bound yet. Raises ``Refused`` with nothing of it left open."""
    opened: Sockets = {}
    for name, endpoint in wanted(config):
        if (name, endpoint) in held:
            continue
        try:
            opened[name, endpoint] = bind(endpoint) if not endpoint.path else _bind_path(config.listener[name], endpoint)
        except (OSError, LookupError) as error:
            close_all(opened.values())
            raise Refused(f"cannot listen on {endpoint} ({name}): {_reason(error)}") from None
    return opened


def _reason(error: OSError | LookupError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error.args[0])


def _bind_path(listener: Listener, endpoint: Endpoint) -> _socket.socket:
    return bind_path(endpoint.path, int(listener.socket_mode, 8), listener.socket_owner)


def close_all(sockets: Iterable[_socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def activated(config: Config, environment: Mapping[str, str]) -> Sockets:
    """What systemd has bound for us (sd_listen_fds(3)): by address, else by the listener's name. Raises ``Refused``."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: Sockets = {}
    for place in range(count):
        sock = _socket.socket(fileno=FIRST_PASSED + place)
        os.set_inheritable(sock.fileno(), False)
        name = names[place] if place < len(names) else ""
        free = [key for key in wanted(config) if key not in found]
        key = next((key for key in free if key[1] == address(sock)), None) or next((key for key in free if key[0] == name), None)
        if key is None:
            raise Refused(f"systemd passed a socket for {address(sock)}, which no listener has")
        found[key] = sock
    return found


def handed_over(environment: Mapping[str, str]) -> Sockets:
    """What the master before this one has passed on."""
    text = environment.get(HANDED_OVER)
    if text is None:
        return {}
    found: Sockets = {}
    for name, host, port, path, descriptor in msgspec.json.decode(text, type=list[tuple[str, str, int, str, int]]):
        sock = _socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        found[name, Endpoint(host, port, path)] = sock
    return found


def hand_over(sockets: Mapping[Key, _socket.socket]) -> str:
    """The value of HANDED_OVER for a process that inherits these; makes them inheritable."""
    for sock in sockets.values():
        os.set_inheritable(sock.fileno(), True)
    return msgspec.json.encode([(name, *at, sock.fileno()) for (name, at), sock in sockets.items()]).decode()
