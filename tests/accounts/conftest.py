"""Private servers that know accounts: PostgreSQL and slapd on the loopback, each in a folder of its own, ended by its id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest
import trustme

from smtpproxy.testing.waiting import until


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Server:
    """A process that is started, stopped and started again."""

    def __init__(self, folder: Path, command: list[str], stop_by: int, user: str | None = None) -> None:
        self.folder = folder
        self.command = command
        self._stop_by = stop_by
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def run(self, command: list[str]) -> None:
        """Something that ends by itself."""
        done = subprocess.run(command, capture_output=True, cwd=self.folder, user=self._user, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        with (self.folder / "printed").open("ab") as printed:
            self._process = subprocess.Popen(
                self.command, stdout=printed, stderr=printed, cwd=self.folder, user=self._user, start_new_session=True
            )

    def stop(self) -> None:
        """Like a server that died: connections to it are lost."""
        if self._process is not None:
            if self._frozen:  # thawed, PostgreSQL would first wait for those who knocked meanwhile
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.send_signal(self._stop_by)
            self._process.wait(20)
            self._process, self._frozen = None, False

    def running(self) -> None:
        """See to it that it runs."""
        if self._process is not None and self._frozen:
            self.stop()
        if self._process is None:
            self.start()

    def freeze(self) -> None:
        """It goes on holding its sockets, and answers nothing, until it is stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True


class PostgreSQLServer(Server):
    """A cluster on a port of the loopback, as the user postgres: the server refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            pytest.fail("these tests need PostgreSQL: install the package 'postgresql'", pytrace=False)
        self.port = free_port()
        data = folder / "data"
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        command = [str(programs[-1] / "postgres"), "-D", str(data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        user = "postgres" if os.geteuid() == 0 else None
        super().__init__(folder, command, signal.SIGQUIT, user)
        if user:
            shutil.chown(folder, user)
        (folder / "secret").write_text("of the proxy\n")
        options = ["--username=proxy", "--auth=scram-sha-256", f"--pwfile={folder / 'secret'}", "--no-sync", "--locale=C"]
        self.run([str(programs[-1] / "initdb"), "-D", str(data), "--encoding=UTF8", *options])

    @property
    def url(self) -> str:
        return f"postgresql://proxy@127.0.0.1:{self.port}/postgres"

    def connect(self) -> psycopg.Connection[tuple[str, ...]]:
        return psycopg.connect(self.url, password="of the proxy", autocommit=True, connect_timeout=5)

    def start(self) -> None:
        super().start()
        until(self._answers, 20.0, "PostgreSQL")

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/pid
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
database mdb
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
rootpw of-the-admin
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.base="cn=proxy,dc=example,dc=com" read by self read by * none
"""


class Slapd(Server):
    """OpenLDAP for dc=example,dc=com: `port` speaks LDAP (STARTTLS), `tls_port` LDAPS; `ca` vouches for 127.0.0.1."""

    def __init__(self, folder: Path, ldif: str) -> None:
        binary = shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap:/usr/libexec")
        if binary is None:
            pytest.fail("these tests need slapd: install the package 'slapd'", pytrace=False)
        self.port, self.tls_port = free_port(), free_port()
        self.ca = folder / "ca.pem"
        config = folder / "slapd.conf"
        config.write_text(SLAPD.format(folder=folder))
        (folder / "data").mkdir()
        (folder / "accounts.ldif").write_text(ldif)
        self._certify(folder)
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        super().__init__(folder, [binary, "-d", "0", "-f", str(config), "-h", urls], signal.SIGTERM)
        self.run([str(Path(binary).with_name("slapadd")), "-q", "-f", str(config), "-l", str(folder / "accounts.ldif")])

    def _certify(self, folder: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        server = authority.issue_cert("127.0.0.1")
        server.private_key_pem.write_to_path(folder / "key.pem")
        server.cert_chain_pems[0].write_to_path(folder / "cert.pem")

    def start(self) -> None:
        super().start()
        until(lambda: listens(self.port) and listens(self.tls_port), 20.0, "slapd")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that the servers' own users reach."""
    path = Path(mkdtemp(prefix="smtpproxy-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def postgresql_cluster(place: Path) -> Iterator[PostgreSQLServer]:
    server = PostgreSQLServer(place)
    yield server
    server.stop()


@pytest.fixture
def postgresql(postgresql_cluster: PostgreSQLServer) -> PostgreSQLServer:
    """A PostgreSQL that runs; a test may stop, start and freeze it."""
    postgresql_cluster.running()
    return postgresql_cluster


@pytest.fixture(scope="module")
def slapd_instance(place: Path, ldif: str) -> Iterator[Slapd]:
    server = Slapd(place, ldif)
    yield server
    server.stop()


@pytest.fixture
def slapd(slapd_instance: Slapd) -> Slapd:
    """A slapd that runs; a test may stop, start and freeze it. The module says with `ldif` what it knows."""
    slapd_instance.running()
    return slapd_instance
