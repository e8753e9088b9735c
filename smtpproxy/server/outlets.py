"""The ways out of one generation: every [handoff.NAME], and servers that rules name by their address."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from smtpproxy.config.schema import Handoff
from smtpproxy.config.values import Target
from smtpproxy.handoff.base import Outlet
from smtpproxy.handoff.proxy import ProxyOutlet

SERVERS = 1000
"""Servers named by rules that are kept; the one used longest ago makes room."""

LIKE = " like "
"""Between a server that a rule names and the hand-off whose settings it has, but for the login."""

UPSTREAM_KINDS = ("proxy", "relay")


class Outlets(dict[str, Outlet]):
    """By name; those of servers under names that no [handoff.NAME] can have."""

    def __init__(self, outlets: Mapping[str, Outlet], settings: Mapping[str, Handoff], make: Callable[[str, Handoff], Outlet]):
        super().__init__(outlets)
        self._settings = settings
        self._make = make
        self._servers: dict[str, Outlet] = {}

    def server(self, address: str, like: str) -> Outlet:
        """The way to "smtp://10.0.0.1:25", with the settings of the hand-off `like` if that has upstreams.

        Else it is a relay that says nothing of the client. Raises BadValue for what is no address.
        """
        target = Target.parse(address)
        name = f"{target}{LIKE}{like}"
        outlet = self._servers.pop(name, None)
        if outlet is None:
            outlet = self[name] = self._make(name, self._settings_for(target, like))
        self._servers[name] = outlet
        if len(self._servers) > SERVERS:
            self._forget(next(iter(self._servers)))
        return outlet

    def _settings_for(self, target: Target, like: str) -> Handoff:
        settings = self._settings.get(like)
        if settings is None or settings.kind not in UPSTREAM_KINDS:
            return Handoff(kind="relay", to=(target,))
        return replace(settings, to=(target,))

    def _forget(self, name: str) -> None:
        """Sessions that use it keep it until they end."""
        outlet = self._servers.pop(name)
        del self[name]
        if isinstance(outlet, ProxyOutlet):
            outlet.pool.close()
