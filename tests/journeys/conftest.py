"""Real servers for the journeys: private instances of Postfix and Dovecot on the loopback, and the swaks client.

Each lives in a folder of its own under the system's temporary folder (their users must be able to reach it), on free
ports, and is ended by its process id. A package that is missing fails the journey with its name.
"""

from __future__ import annotations

import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from private_daemons import Daemon, children, free_port, program, several

from smtpproxy.config.values import ScannerTarget
from smtpproxy.scanners.clamav import ClamAV
from smtpproxy.testing.waiting import until

POSTFIX_DAEMONS = Path("/usr/lib/postfix/sbin")

POSTFIX_SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Daemon):
    """A Postfix that takes example.com into one Maildir.

    `services` names its smtpd services, each with main.cf settings of its own (`-o`); `ports` has a port for each.
    """

    def __init__(self, folder: Path, services: Mapping[str, Mapping[str, str]], settings: Mapping[str, str]) -> None:
        super().__init__(folder)
        self.binary = program("postfix", "postfix")
        self.ports = {name: free_port() for name in services}
        self.configure(services, settings)

    @property
    def mailbox(self) -> Path:
        """Where delivered messages are, a file each."""
        return self.folder / "mail" / "box" / "new"

    @property
    def delivered(self) -> list[bytes]:
        """The messages in the mailbox."""
        return [path.read_bytes() for path in self.mailbox.iterdir()] if self.mailbox.exists() else []

    def configure(self, services: Mapping[str, Mapping[str, str]], settings: Mapping[str, str]) -> None:
        """Write main.cf and master.cf."""
        for name in ("etc", "spool", "data", "mail"):
            (self.folder / name).mkdir(exist_ok=True)
        shutil.chown(self.folder / "data", "postfix")
        shutil.chown(self.folder / "mail", "nobody")
        written = {**self._defaults(), **settings}
        (self.folder / "etc/main.cf").write_text("".join(f"{name} = {value}\n" for name, value in written.items()))
        self._services = services
        self._write_services()

    def _write_services(self, **options: str) -> None:
        lines = [self._service(name, {**own, **options}) for name, own in self._services.items()]
        (self.folder / "etc/master.cf").write_text("\n".join(lines) + "\n" + POSTFIX_SERVICES)

    def _service(self, name: str, options: Mapping[str, str]) -> str:
        given = {"syslog_name": f"postfix/{name}", **options}
        lines = [f"127.0.0.1:{self.ports[name]} inet n - n - 100 smtpd"]
        return "\n".join(lines + [f"  -o {{ {key} = {value} }}" for key, value in given.items()])

    def _defaults(self) -> dict[str, str]:
        nobody = pwd.getpwnam("nobody").pw_uid
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "spool"),
            "data_directory": str(self.folder / "data"),
            "command_directory": "/usr/sbin",
            "daemon_directory": str(POSTFIX_DAEMONS),
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "all",
            "myhostname": "postfix.example.com",
            "mydestination": "",
            "mynetworks": "",
            "alias_maps": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": "example.com",
            "virtual_mailbox_maps": "static:box/",
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_uid_maps": f"static:{nobody}",
            "virtual_gid_maps": f"static:{nobody}",
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(self.folder),
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_peername_lookup": "no",
            "smtpd_client_connection_count_limit": "0",
            "in_flow_delay": "0",
            "smtpd_error_sleep_time": "0",
            "max_idle": "1s",
            "service_throttle_time": "1s",
        }

    def command(self) -> list[str]:
        """master(8) in the foreground."""
        return [str(POSTFIX_DAEMONS / "master"), "-c", str(self.folder / "etc"), "-s"]

    def start(self) -> None:
        """The first time check the configuration (that makes the queue's folders); run it."""
        if self.process is None:
            self._check()
        super().start()

    def retire(self) -> None:
        """An orderly stop: the sessions there are come to their end, later ones are put off, then all is stopped."""
        assert self.process is not None
        master = self.process.pid
        self._write_services(smtpd_client_restrictions="defer", max_use="1")
        reloads = self.log.count("reload -- ")
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.log.count("reload -- ") > reloads, 10.0, "the reload")
        taking = {pid for pid, name in children(master).items() if name == "smtpd"}
        until(lambda: not taking & children(master).keys(), 20.0, "the end of the smtpd processes that took mail")
        self.stop()
        self._write_services()

    def _check(self) -> None:
        check = [self.binary, "-c", str(self.folder / "etc"), "check"]
        done = subprocess.run(check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()


class DovecotLmtp(Daemon):
    """A Dovecot that takes mail by LMTP for the users it knows, each with a Maildir."""

    def __init__(self, folder: Path, users: tuple[str, ...]) -> None:
        super().__init__(folder)
        self.binary = program("dovecot", "dovecot-lmtpd")
        if not Path("/usr/lib/dovecot/lmtp").exists():
            pytest.fail("this journey needs LMTP of Dovecot: install the package 'dovecot-lmtpd'", pytrace=False)
        self.ports = {"lmtp": free_port()}
        self.users = users
        self.configure()

    @property
    def port(self) -> int:
        """Where it speaks LMTP."""
        return self.ports["lmtp"]

    def delivered(self, user: str) -> list[bytes]:
        """The messages in a user's mailbox."""
        mailbox = self.folder / "mail" / user / "new"
        return [path.read_bytes() for path in mailbox.iterdir()] if mailbox.exists() else []

    def configure(self) -> None:
        """Write dovecot.conf and the users."""
        nobody = pwd.getpwnam("nobody")
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", "nobody")
        home = self.folder / "mail"
        lines = [f"{user}:{{PLAIN}}x:{nobody.pw_uid}:{nobody.pw_gid}::{home / user}::\n" for user in self.users]
        (self.folder / "users").write_text("".join(lines))
        (self.folder / "dovecot.conf").write_text(f"""\
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.log_file}
protocols = lmtp
listen = 127.0.0.1
ssl = no
hostname = dovecot.example.com
postmaster_address = postmaster@example.com
mail_location = maildir:{home}/%n
first_valid_uid = 1
first_valid_gid = 1
auth_username_format = %Ln
passdb {{
  driver = passwd-file
  args = {self.folder}/users
}}
userdb {{
  driver = passwd-file
  args = {self.folder}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
service stats {{
  chroot =
}}
service anvil {{
  chroot =
}}
protocol lmtp {{
  auth_socket_path = auth-userdb
}}
""")

    def command(self) -> list[str]:
        """dovecot(1) in the foreground."""
        return [self.binary, "-F", "-c", str(self.folder / "dovecot.conf")]


EICAR_SIGNATURE = "58354f2150254041505b345c505a58353428505e2937434329377d2445494341522d5354414e444152442d414e544956"


class Clamd(Daemon):
    """A clamd that knows one virus, the EICAR test file, by the name Test.Eicar; on a unix socket and on a port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder)
        self.binary = program("clamd", "clamav-daemon")
        self.socket = folder / "clamd.ctl"
        self.port = free_port()
        (folder / "signatures").mkdir()
        (folder / "signatures/test.ndb").write_text(f"Test.Eicar:0:*:{EICAR_SIGNATURE}\n")
        own = {
            "Foreground": "yes",
            "DatabaseDirectory": str(folder / "signatures"),
            "TemporaryDirectory": str(folder),
            "LogFile": str(self.log_file),
            "LocalSocket": str(self.socket),
            "TCPSocket": str(self.port),
            "TCPAddr": "127.0.0.1",
            "MaxThreads": "4",
        }
        lines = [f"{name} {value}\n" for name, value in {**own, **settings}.items()]
        (folder / "clamd.conf").write_text("".join(lines))

    def command(self) -> list[str]:
        """clamd(8) in the foreground."""
        return [self.binary, "--config-file", str(self.folder / "clamd.conf")]

    def start(self) -> None:
        """Run it, and wait until it has read its signatures."""
        super().start()
        client = ClamAV([ScannerTarget("127.0.0.1", self.port)])
        until(lambda: self._alive() and client.ping(), 30.0, f"clamd: {self.printed}")


@pytest.fixture
def clamd(folder: Path) -> Iterator[Callable[..., Clamd]]:
    """Start a private clamd: clamd(StreamMaxLength="100K")."""
    with several(folder, "clamd") as begin:

        def starter(**settings: str) -> Clamd:
            return begin(lambda place: Clamd(place, **settings))

        yield starter


@pytest.fixture
def postfix(folder: Path) -> Iterator[Callable[..., Postfix]]:
    """Start private Postfix instances: postfix({"mx": {"-o setting": ...}}, main_cf_setting=...)."""
    with several(folder, "postfix") as begin:

        def starter(services: Mapping[str, Mapping[str, str]], **settings: str) -> Postfix:
            return begin(lambda place: Postfix(place, services, settings))

        yield starter


@pytest.fixture
def dovecot(folder: Path) -> Iterator[Callable[..., DovecotLmtp]]:
    """Start a private Dovecot: dovecot("alice", "bob")."""
    with several(folder, "dovecot") as begin:

        def starter(*users: str) -> DovecotLmtp:
            return begin(lambda place: DovecotLmtp(place, users))

        yield starter


class Swaks:
    """The swaks client."""

    def __init__(self) -> None:
        self.binary = program("swaks", "swaks")

    def __call__(self, port: int, *options: str) -> subprocess.CompletedProcess[str]:
        """Send a message to a port; its exit status and what was said."""
        command = [self.binary, "--server", "127.0.0.1", "--port", str(port), "--timeout", "20", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def swaks() -> Swaks:
    """The swaks client: swaks(port, "--from", ...)."""
    return Swaks()
