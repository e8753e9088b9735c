"""[users.NAME] kind = "ldap": who can bind to a directory with the password is let in (RFC 4511 4.2, RFC 4513).

The entry's name is a template, or the entry is searched for by somebody who may. ldap3 works on sockets of the standard
library, which wait in the hub once that is patched; its own time limits do not, so gevent's are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from smtpproxy.accounts.base import Account, Accounts, AccountsError
from smtpproxy.accounts.connections import Connections, Unanswered, within
from smtpproxy.accounts.hashing import Hashing
from smtpproxy.accounts.secrets import read_secret
from smtpproxy.config.directory import LdapServer
from smtpproxy.config.template import Template, of_address
from smtpproxy.config.users import UsersLdap
from smtpproxy.wire.saslprep import saslprep

if TYPE_CHECKING:
    from ldap3 import Connection

_DONE = 0
_REFUSED = frozenset({19, 32, 34, 48, 49, 50, 53})
"""Results of a bind (RFC 4511 4.1.9) that say no: constraintViolation (locked), noSuchObject, invalidDNSyntax,
inappropriateAuthentication (no password), invalidCredentials, insufficientAccessRights, unwillingToPerform (disabled)."""
_NO_SUCH_OBJECT = 32
_MORE = 4
"""sizeLimitExceeded: there are more entries than were asked for."""
_ENOUGH = 2
"""Entries of a search: more than one is one too many."""


class Entry(NamedTuple):
    """What the directory holds: its name there, and the values of the attributes that were asked for."""

    dn: str
    values: tuple[str, ...] = ()


class Directory:
    """Servers of one directory, asked in turn: connections encrypted as the settings say."""

    def __init__(self, settings: UsersLdap) -> None:
        """Raises ``AccountsError`` without ldap3, OSError and ssl.SSLError for a `ca` that cannot be used."""
        try:
            import ldap3
        except ImportError:
            raise AccountsError("directories need ldap3: pip install 'smtpproxy[ldap]'") from None
        from ldap3.core.exceptions import LDAPException

        from smtpproxy.accounts.ldap_tls import VerifiedTls

        self.lost: tuple[type[Exception], ...] = (Unanswered, LDAPException, OSError)
        self._ldap3 = ldap3
        self._settings = settings
        self._tls = VerifiedTls(str(settings.ca) if settings.ca is not None else None)

    def bind(self, dn: str, password: str) -> tuple[Connection, int]:
        """A connection, and the result of binding. Raises ``Unanswered``."""
        failures = []
        for server in self._settings.to:
            try:
                return self._bind(server, dn, password)
            except self.lost as error:
                failures.append(f"{server}: {' '.join(str(error).split())}")
        raise Unanswered("; ".join(failures))

    def _bind(self, server: LdapServer, dn: str, password: str) -> tuple[Connection, int]:
        connection = self._connection(server, dn, password)
        try:
            connection.open(read_server_info=False)
            if server.protocol == "ldap" and self._settings.starttls:
                connection.start_tls(read_server_info=False)
            connection.bind(read_server_info=False)
        except BaseException:
            close(connection)
            raise
        return connection, int(connection.result["result"])

    def _connection(self, server: LdapServer, dn: str, password: str) -> Connection:
        ldap3 = self._ldap3
        target = ldap3.Server(
            server.host, server.port, use_ssl=server.protocol == "ldaps", tls=self._tls, get_info=ldap3.NONE,
            connect_timeout=self._settings.timeout,
        )  # fmt: skip
        kind = ldap3.SIMPLE if dn else ldap3.ANONYMOUS
        made: Connection = ldap3.Connection(
            target, dn or None, password or None, authentication=kind, auto_referrals=False, check_names=False
        )
        return made

    def search(self, connection: Connection, base: str, wanted: str, attributes: Sequence[str], one: bool) -> list[Entry]:
        """The entries that fit, at most _ENOUGH. `one`: the base itself. Raises ``Unanswered``, `lost`."""
        scope = self._ldap3.BASE if one else self._ldap3.SUBTREE
        connection.search(base, wanted, scope, attributes=list(attributes) or ["1.1"], size_limit=_ENOUGH)
        result = connection.result
        if result["result"] not in (_DONE, _MORE, _NO_SUCH_OBJECT):
            raise Unanswered(f"search in {base}: {result['description']} {result['message']}".rstrip())
        found = [item for item in connection.response or () if item["type"] == "searchResEntry"]
        return [Entry(str(item["dn"]), _values(item["attributes"], attributes)) for item in found]


class LdapAccounts(Accounts):
    """A login's entry is `dn`, or what `filter` finds below `base`."""

    def __init__(self, name: str, hashing: Hashing, settings: UsersLdap) -> None:
        super().__init__(name, hashing)
        self._settings = settings
        self._directory = Directory(settings)
        self._dn = Template(settings.dn)
        self._filter = Template(settings.filter)
        self._exists = Template(settings.exists)
        self._searching: Connections[_Searcher] = Connections(
            self._searcher, self._directory.lost, settings.connections, settings.timeout
        )

    def find(self, name: str) -> Account | None:
        """See ``Accounts``."""
        entry = self._entry(name)
        return self._account(name, entry) if entry is not None else None

    def exists(self, address: str) -> bool:
        """See ``Accounts``."""
        if not self._exists:
            raise AccountsError(f"[users.{self.name}.ldap] has no filter `exists`")
        return bool(self._search(self._settings.base, self._exists.fill(of_address(address), _escaped), ()))

    def check(self, name: str, password: str) -> Account | None:
        """See ``Accounts``. Who is not there is bound as, too: that takes as long."""
        if not password or not name:  # a bind without a password succeeds, and says nothing (RFC 4513 5.1.2)
            return None
        entry = Entry(self._dn.fill({"name": name}, _escaped)) if self._dn else self._entry(name)
        try:
            with within(self._settings.timeout):
                return self._bound(name, entry, password)
        except self._directory.lost as error:
            raise AccountsError(f"[users.{self.name}] {error}") from None

    def close(self) -> None:
        """See ``Accounts``."""
        self._searching.close()

    def _bound(self, name: str, entry: Entry | None, password: str) -> Account | None:
        connection, result = self._directory.bind(entry.dn if entry else f"cn=nobody,{self._settings.base}", password)
        try:
            if result not in _REFUSED | {_DONE}:
                raise Unanswered(f"bind: {connection.result['description']} {connection.result['message']}".rstrip())
            if result != _DONE or entry is None:
                return None
            if self._dn:
                own = self._directory.search(connection, entry.dn, "(objectClass=*)", self._settings.addresses, one=True)
                entry = own[0] if own else entry
            return self._account(name, entry)
        finally:
            close(connection)

    def _account(self, name: str, entry: Entry) -> Account:
        """Directories do not tell large letters from small ones in names."""
        return Account(saslprep(name).casefold(), tuple(value for value in entry.values if "@" in value))

    def _entry(self, name: str) -> Entry | None:
        values, attributes = {"name": name}, self._settings.addresses
        if self._dn:
            found = self._search(self._dn.fill(values, _escaped), "(objectClass=*)", attributes, one=True)
        else:
            found = self._search(self._settings.base, self._filter.fill(values, _escaped), attributes)
        if len(found) > 1:
            raise AccountsError(f"[users.{self.name}] {name}: `filter` finds {found[0].dn} and {found[1].dn}")
        return found[0] if found else None

    def _search(self, base: str, wanted: str, attributes: Sequence[str], one: bool = False) -> list[Entry]:
        try:
            return self._searching.ask(lambda it: self._directory.search(it.connection, base, wanted, attributes, one))
        except Unanswered as error:
            raise AccountsError(f"[users.{self.name}] {error}") from None

    def _searcher(self) -> _Searcher:
        settings = self._settings
        password = read_secret(settings.search_password_file) if settings.search_password_file else ""
        connection, result = self._directory.bind(settings.search_dn, password)
        if result != _DONE:
            close(connection)
            raise Unanswered(f"bind as {settings.search_dn or 'nobody'}: {connection.result['description']}")
        return _Searcher(connection)


class _Searcher(NamedTuple):
    """A connection that is bound as the one who searches."""

    connection: Connection

    def close(self) -> None:
        close(self.connection)


def close(connection: Connection) -> None:
    """Without waiting for anything; raises nothing."""
    with suppress(Exception):  # ldap3 raises what it likes of a connection that has died
        connection.unbind()
    if connection.socket is not None:  # ldap3 forgets the one that was still connecting
        connection.socket.close()


def _values(attributes: Any, wanted: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in wanted:
        values = attributes.get(name) or []
        found += [str(value) for value in ([values] if isinstance(values, str) else values)]
    return tuple(found)


def _escaped(value: str) -> str:
    """As it may stand in a name and in a filter (RFC 4514 2.4, RFC 4515 3): what could mean something else, by its code."""
    return "".join(sign if sign.isalnum() or sign in "-_.@" else "".join(map("\\{:02x}".format, sign.encode())) for sign in value)
