"""More mail servers that are unpacked beside (tests/needs.sh), and the certificates of these journeys.

Exim runs as `nobody` with a configuration and spool of its own. OpenSMTPD has its paths and users compiled in: it gets a
root folder of its own with a copy of its program, the libraries of that, and users that exist there only.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from private_daemons import Daemon, free_port, several

UNPACKED = Path(os.environ.get("SMTPPROXY_TEST_SERVERS") or "/var/cache/smtpproxy-tests")
USERS = {"opensmtpd": 701, "opensmtpq": 702, "box": 65534}

EXIM = """\
exim_path = {binary}
exim_user = nobody
exim_group = nogroup
primary_hostname = exim.example.com
spool_directory = {folder}/spool
log_file_path = {folder}/logs/%slog
log_selector = +pipelining +received_recipients
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
smtputf8_advertise_hosts = *
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
host_lookup =
message_size_limit = {size}
deliver_drop_privilege = true
{tls}
begin acl
acl_rcpt:
  deny local_parts = nobody
       domains = {refusing}
       message = No such user here
  accept
acl_data:
  accept
begin routers
{router}
begin transports
mailbox:
  driver = appendfile
  maildir_format
  directory = {folder}/mail/box
  create_directory
  user = nobody
smarthost:
  driver = smtp
  {require_tls}
begin retry
* * F,1h,1s
"""
HERE = """\
here:
  driver = accept
  domains = example.com
  transport = mailbox
"""
AWAY = """\
away:
  driver = manualroute
  transport = smarthost
  route_list = * 127.0.0.1::{port} byname
  self = send
"""


class Certificates(NamedTuple):
    """A certificate for mx.example.com and the loopback, good for all servers here."""

    authority: Path
    certificate: Path
    key: Path


@pytest.fixture
def certificates(folder: Path) -> Certificates:
    """Files that every user can read: they are for this test only."""
    authority = trustme.CA()
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    issued = authority.issue_cert("mx.example.com", "localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(made.authority))
    issued.cert_chain_pems[0].write_to_path(str(made.certificate))
    issued.private_key_pem.write_to_path(str(made.key))
    for path in made:
        path.chmod(0o644)
    return made


def unpacked(package: str, program: str) -> Path:
    """A program of a package that is unpacked beside; fails with what would unpack it."""
    found = UNPACKED / package / program
    if not found.exists():
        pytest.fail(f"this journey needs {found} of the package {package!r}: run tests/needs.sh as root", pytrace=False)
    return found


class Mta(Daemon):
    """A mail server that takes example.com into a Maildir and, with a smarthost, sends all the rest there."""

    mail = "mail/box/new"

    @property
    def port(self) -> int:
        """Where it takes mail."""
        return self.ports["mx"]

    @property
    def delivered(self) -> list[bytes]:
        """The messages in the mailbox, with LF."""
        mailbox = self.folder / self.mail
        return [path.read_bytes() for path in mailbox.iterdir()] if mailbox.exists() else []


class Exim(Mta):
    """Exim; `<nobody@example.com>` is refused."""

    def __init__(self, folder: Path, certificates: Certificates | None, smarthost: int, size: str) -> None:
        super().__init__(folder)
        self.binary = unpacked("exim4-daemon-light", "usr/sbin/exim4")
        self.ports = {"mx": free_port()}
        for name in ("spool", "mail", "logs"):
            (folder / name).mkdir()
            shutil.chown(folder / name, "nobody", "nogroup")
        self.log_file = folder / "logs/mainlog"
        tls = "tls_advertise_hosts ="
        if certificates:
            tls = f"tls_certificate = {certificates.certificate}\ntls_privatekey = {certificates.key}"
        self.configuration = folder / "exim.conf"
        self.configuration.write_text(
            EXIM.format(
                binary=self.binary, folder=folder, port=self.port, size=size, tls=tls,
                router=AWAY.format(port=smarthost) if smarthost else HERE,
                refusing="!*" if smarthost else "example.com",
                require_tls="hosts_require_tls = *\n  tls_verify_hosts = :" if certificates else "hosts_avoid_tls = *",
            )
        )  # fmt: skip

    def command(self) -> list[str]:
        """The daemon in the foreground, with a queue runner."""
        return [str(self.binary), "-C", str(self.configuration), "-bdf", "-q1m"]


class OpenSmtpd(Mta):
    """OpenSMTPD; example.com has the one mailbox `box`. With certificates it asks its smarthost for TLS."""

    mail = "home/box/Maildir/new"

    def __init__(self, folder: Path, certificates: Certificates | None, smarthost: int, size: str) -> None:
        super().__init__(folder)
        package = unpacked("opensmtpd", "usr/sbin/smtpd").parents[2]
        self.ports = {"mx": free_port()}
        for name in ("bin", "dev", "etc", "tmp", "home/box", "var/run", "var/spool/smtpd", "var/lib/opensmtpd/empty"):
            (folder / name).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        (folder / "var/spool/smtpd").chmod(0o711)
        shutil.chown(folder / "home/box", "nobody")
        shutil.copytree(package / "usr", folder / "usr")
        shutil.copy("/bin/sh", folder / "bin/sh")
        self._libraries()
        for name, minor in {"null": 3, "urandom": 9}.items():
            os.mknod(folder / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (folder / "dev" / name).chmod(0o666)
        self._settings(certificates, smarthost, size)

    def _libraries(self) -> None:
        programs = [self.folder / "bin/sh", *(path for path in (self.folder / "usr").rglob("*bin*/*") if path.is_file())]
        programs += (self.folder / "usr/libexec/opensmtpd").iterdir()
        named = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
        for library in set(re.findall(r"(/\S+\.so\S*) \(0x", named)):
            target = self.folder / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)

    def _settings(self, certificates: Certificates | None, smarthost: int, size: str) -> None:
        etc = self.folder / "etc"
        users = [f"{name}:x:{number}:{number}::/home/{name}:/bin/sh" for name, number in USERS.items()]
        (etc / "passwd").write_text("\n".join(["root:x:0:0::/:/bin/sh", *users, ""]))
        (etc / "group").write_text("\n".join(["root:x:0:", *(f"{name}:x:{number}:" for name, number in USERS.items()), ""]))
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        (etc / "mailname").write_text("opensmtpd.example.com\n")
        os.chown(self.folder / "usr/sbin/smtpctl", 0, USERS["opensmtpq"])
        scheme = "smtp+tls" if certificates else "smtp"
        where = f"relay host {scheme}://127.0.0.1:{smarthost}" + (" tls no-verify" if certificates else "")
        if not smarthost:
            where = 'maildir "/home/box/Maildir" user box virtual { "box@example.com" = box }'
        (etc / "smtpd.conf").write_text(
            f"smtp max-message-size {size}\nlisten on 127.0.0.1 port {self.port}\n"
            f'action "there" {where}\nmatch from any for domain "example.com" action "there"\n'
        )

    def command(self) -> list[str]:
        """smtpd(8) in the foreground, with its folder as the root."""
        return ["chroot", str(self.folder), "/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"]

    @property
    def log(self) -> str:
        """What it says on the console."""
        return self.printed


class PostfixMta:
    """Postfix of the other journeys, with the same words as the two above."""

    def __init__(self, postfix: Callable[..., Any], certificates: Certificates | None, smarthost: int, size: str) -> None:
        settings = {"message_size_limit": size, "smtpd_tls_loglevel": "1", "smtp_tls_loglevel": "1", "mailbox_size_limit": "0"}
        if certificates:
            settings["smtpd_tls_security_level"] = "may"
            settings["smtpd_tls_chain_files"] = f"{certificates.key}, {certificates.certificate}"
            settings["smtp_tls_security_level"] = "encrypt"
        refusing = {"smtpd_recipient_restrictions": "check_recipient_access inline:{nobody@example.com=REJECT}"}
        if smarthost:
            settings["relayhost"] = f"[127.0.0.1]:{smarthost}"
            settings["virtual_mailbox_domains"] = ""
            refusing = {"mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks, reject"}
        self._daemon = postfix({"mx": refusing}, **settings)

    @property
    def port(self) -> int:
        """Where it takes mail."""
        return int(self._daemon.ports["mx"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._daemon, name)


@pytest.fixture
def mta(folder: Path, postfix: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start a mail server: mta("exim", certificates, smarthost=PORT, size="20000000")."""
    with several(folder, "mta") as begin:

        def starter(name: str, certificates: Certificates | None = None, *, smarthost: int = 0, size: str = "20000000") -> Any:
            if name == "postfix":
                return PostfixMta(postfix, certificates, smarthost, size)
            kind = {"exim": Exim, "opensmtpd": OpenSmtpd}[name]
            return begin(lambda place: kind(place, certificates, smarthost, size))

        yield starter


@pytest.fixture
def no_nobody() -> dict[str, str]:
    """A rule that refuses one recipient."""
    rule = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    if rcpt.local_part == "nobody":
        return deny("No such user here", code="550 5.1.1")
"""
    return {"10-nobody.py": rule}
