"""The kind of value that names a server of a directory."""

from __future__ import annotations

from typing import Final, NamedTuple

from smtpproxy.config.values import BadValue, Endpoint, Target

_PORTS: Final = {"ldap": 389, "ldaps": 636}


class LdapServer(NamedTuple):
    """A directory: "ldap://host[:port]" or "ldaps://host[:port]"."""

    protocol: str
    host: str
    port: int

    @classmethod
    def parse(cls, raw: object) -> LdapServer:
        protocol, found, rest = str(raw).rstrip("/").partition("://")
        if not (isinstance(raw, str) and found and protocol in _PORTS):
            raise BadValue(f"{raw!r} is neither ldap://host nor ldaps://host")
        named = rest.endswith("]") or ":" not in rest
        target = Target.parse(f"{rest}:{_PORTS[protocol]}" if named else rest)
        return cls(protocol, target.host, target.port)

    def __str__(self) -> str:
        return f"{self.protocol}://{Endpoint(self.host, self.port)}"
