"""Other people's clients in front of us, in the clear, by STARTTLS and by implicit TLS: every octet goes through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from private_daemons import program

from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "mx.example.com"
[listener.mx]
bind = ["127.0.0.1:0"]
handoff = "out"
tls = {{ cert = "{tls.certificate}", key = "{tls.key}" }}
[listener.smtps]
bind = ["127.0.0.1:0"]
handoff = "out"
tls = {{ cert = "{tls.certificate}", key = "{tls.key}", mode = "implicit" }}
[handoff.out]
kind = "{kind}"
to = ["{upstream}"]
[relaying]
domains = ["example.com"]
"""
CONTENT = (
    b"Subject: hello\r\nX-Odd:  two  spaces \r\n\t folded\r\n\r\n"
    b".dots\r\n..more\r\n  end  \r\n" + "größer\r\n".encode() + b"x" * 900 + b"\r\n\r\n.\r\nlast\r\n"
)
LARGE = b"Subject: large\r\n\r\n" + (b"." * 76 + b"\r\n") * 65_000

SMTPLIB = """
import smtplib, ssl, sys
port, mode, ca, file, sender, *recipients = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
secure = mode == "implicit"
with smtplib.SMTP_SSL("127.0.0.1", port, context=context) if secure else smtplib.SMTP("127.0.0.1", port) as client:
    if mode == "starttls":
        client.starttls(context=context)
    options = ["BODY=8BITMIME"] + ["SMTPUTF8"] * (not sender.isascii())
    print(client.sendmail(sender, recipients, open(file, "rb").read(), options))
"""
AIOSMTPLIB = """
import asyncio, ssl, sys
from aiosmtplib import SMTP
port, mode, ca, file, sender, *recipients = sys.argv[1:]
async def main():
    context = ssl.create_default_context(cafile=ca)
    tls = {"use_tls": mode == "implicit", "start_tls": mode == "starttls", "tls_context": context}
    client = SMTP(hostname="127.0.0.1", port=int(port), **tls)
    async with client:
        options = ["BODY=8BITMIME"] + ["SMTPUTF8"] * (not sender.isascii())
        print(await client.sendmail(sender, recipients, open(file, "rb").read(), mail_options=options))
asyncio.run(main())
"""


class Order(NamedTuple):
    """What a client is to send: to which port and how, whose authority to trust, the file and the envelope."""

    port: int
    mode: str
    authority: Path
    file: Path
    sender: str
    recipients: tuple[str, ...]

    def words(self) -> list[str]:
        return [str(self.port), self.mode, str(self.authority), str(self.file), self.sender, *self.recipients]


def swaks(order: Order) -> list[str]:
    order.file.write_bytes(order.file.read_bytes().removesuffix(b"\r\n"))  # swaks adds one
    tls = {"plain": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[order.mode]
    verify = ["--tls-ca-path", str(order.authority), "--tls-verify"] if tls else []
    to = ["--to", ",".join(order.recipients)]
    server = ["--server", "127.0.0.1", "--port", str(order.port), "--pipeline"]
    return [program("swaks", "swaks"), *server, *tls, *verify, "--from", order.sender, *to, "--data", f"@{order.file}"]


def curl(order: Order) -> list[str]:
    scheme = "smtps" if order.mode == "implicit" else "smtp"
    tls = [] if order.mode == "plain" else ["--ssl-reqd", "--cacert", str(order.authority)]
    to = [word for recipient in order.recipients for word in ("--mail-rcpt", recipient)]
    url = f"{scheme}://127.0.0.1:{order.port}/client.example"
    sending = ["--mail-from", order.sender, *to, "--mail-rcpt-allowfails", "--upload-file", str(order.file)]
    return [program("curl", "curl"), "--verbose", "--no-progress-meter", url, *tls, *sending]


def smtplib(order: Order) -> list[str]:
    return [sys.executable, "-c", SMTPLIB, *order.words()]


def aiosmtplib(order: Order) -> list[str]:
    return [sys.executable, "-c", AIOSMTPLIB, *order.words()]


CLIENTS = (swaks, curl, smtplib, aiosmtplib)
MODES = ("plain", "starttls", "implicit")
Client = Callable[[Order], list[str]]


class Door:
    """Our server, TLS at both listeners, a rule that refuses nobody@, and the upstream behind it."""

    def __init__(self, server: RunningServer, upstream: FakeUpstream, certificates: Any, folder: Path) -> None:
        self.server = server
        self.upstream = upstream
        self.authority = certificates.authority
        self._file = folder / "message"

    def port(self, mode: str) -> int:
        return self.server.ports["smtps" if mode == "implicit" else "mx"]

    def send(self, client: Client, content: bytes, *to: str, mode: str = "plain", sender: str = "alice@client.test") -> str:
        """Run a client until it has sent; what it said."""
        self._file.write_bytes(content)
        order = Order(self.port(mode), mode, self.authority, self._file, sender, to or ("box@example.com",))
        done = subprocess.run(client(order), capture_output=True, text=True, timeout=60, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def encrypted(self) -> int:
        """How many messages came by TLS, as the log says."""
        return sum("event=message " in line and " tls=TLSv1.3" in line for line in self.server.log.splitlines())

    def arrived(self, content: bytes) -> None:
        """The one message at the upstream is this, under our Received field."""
        (message,) = self.upstream.messages
        assert message.content.endswith(b"\r\n" + content)
        top = message.content[: -len(content)]
        assert top.startswith(b"Received: from ") and b"by mx.example.com" in top
        assert top.count(b"\r\n\t") == top.count(b"\r\n") - 1


@pytest.fixture(params=["proxy", "relay"])
def door(
    start: Callable[..., RunningServer],
    upstream: FakeUpstream,
    certificates: Any,
    folder: Path,
    no_nobody: dict[str, str],
    request: pytest.FixtureRequest,
) -> Door:
    config = CONFIG.format(tls=certificates, upstream=upstream.address, kind=request.param)
    return Door(start(config, no_nobody), upstream, certificates, folder)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_octet_goes_through(client: Client, door: Door) -> None:
    for mode in MODES:
        door.upstream.reset()
        door.send(client, CONTENT, mode=mode)
        door.arrived(CONTENT)
    door.upstream.reset()
    door.send(client, LARGE, mode="starttls")
    door.arrived(LARGE)
    assert until(lambda: door.encrypted() == 3, what="three messages by TLS in the log")


@pytest.mark.parametrize("client", CLIENTS)
def test_one_recipient_of_two_is_refused(client: Client, door: Door) -> None:
    said = door.send(client, CONTENT, "nobody@example.com", "box@example.com")
    assert "5.1.1 No such user here" in said
    door.arrived(CONTENT)
    assert door.upstream.messages[0].recipients == ["box@example.com"]


@pytest.mark.parametrize("client", [curl, smtplib, aiosmtplib])
def test_what_is_negotiated_reaches_the_upstream(client: Client, door: Door) -> None:
    door.send(client, CONTENT, sender="jörg@client.test")
    (mail,) = [line for line in door.upstream.commands if line.startswith("MAIL")]
    assert "SMTPUTF8" in mail and "jörg@client.test" in mail
    assert "SIZE=" in mail
    assert client is curl or "BODY=8BITMIME" in mail


class Terminal:
    """openssl s_client, with which a person would speak to a server."""

    def __init__(self, door: Door, mode: str) -> None:
        command = [program("openssl", "openssl"), "s_client", "-quiet", "-crlf", "-connect", f"127.0.0.1:{door.port(mode)}"]
        command += ["-CAfile", str(door.authority), "-verify_return_error", "-verify_hostname", "mx.example.com"]
        command += ["-starttls", "smtp"] if mode == "starttls" else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def say(self, text: str) -> str:
        """Type this, and read one reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.reply()

    def reply(self) -> str:
        """The last line of a reply."""
        assert self.process.stdout is not None
        line = b"-" * 4
        while line[3:4] == b"-":
            line = self.process.stdout.readline()
        return line.decode()


@pytest.fixture
def terminal(door: Door) -> Iterator[Callable[[str], Terminal]]:
    """Run openssl s_client: terminal("starttls")."""
    opened: list[Terminal] = []

    def opener(mode: str) -> Terminal:
        opened.append(Terminal(door, mode))
        return opened[-1]

    yield opener
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_a_dialogue_by_openssl(mode: str, door: Door, terminal: Callable[[str], Terminal]) -> None:
    person = terminal(mode)
    if mode == "implicit":  # before STARTTLS, s_client reads the greeting by itself
        assert person.reply().startswith("220 ")
    assert person.say("EHLO client.test").startswith("250 ")
    assert person.say("MAIL FROM:<alice@client.test>").startswith("250 2.1.0")
    assert person.say("RCPT TO:<nobody@example.com>").startswith("550 5.1.1")
    assert person.say("RCPT TO:<box@example.com>").startswith("250 2.1.5")
    assert person.say("DATA").startswith("354")
    assert person.say("Subject: typed\n\nby hand\n.").startswith("250 2.0.0")
    assert person.say("QUIT").startswith("221")
    assert person.process.wait(10) == 0
    door.arrived(b"Subject: typed\r\n\r\nby hand\r\n")
    assert until(lambda: door.encrypted() == 1)
