"""Hundreds of things said to smtpproxy and to Postfix: what differs is listed, with its reason, at the end of docs/rfcs.md."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from private_daemons import Daemon, program

from smtpproxy.accounts import passwords
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

EHLO, MAIL, RCPT = b"EHLO client.example\r\n", b"MAIL FROM:<a@client.test>\r\n", b"RCPT TO:<box@example.com>\r\n"


def forms(table: str) -> list[str]:
    """What stands between the bars, all its spaces included; a line's end and what indents the next one are no part of it."""
    return re.sub(r"\n *", "", table).split("|")


STATES = {
    "at first": [],
    "greeted": [EHLO],
    "after MAIL": [EHLO, MAIL],
    "after RCPT": [EHLO, MAIL, RCPT],
    "between chunks": [EHLO, MAIL, RCPT, b"BDAT 6\r\nX: 1\r\n"],
    "after a message": [EHLO, MAIL, RCPT, b"DATA\r\n", b"X: 1\r\n\r\nx\r\n.\r\n"],
}
"""What was said before, piece by piece."""
VERBS = forms("""
    HELO x|EHLO x|HELO|EHLO|MAIL FROM:<b@client.test>|RCPT TO:<box@example.com>|RCPT TO:<x@elsewhere.test>|MAIL|RCPT|RSET|
    NOOP|VRFY|VRFY x|BDAT 6 LAST|BDAT 0 LAST|BDAT x|XYZZY|STARTTLS|AUTH|DATA|TURN|EXPN x|HELP|QUIT|LHLO x|XCLIENT ADDR=192.0.2.1
""")
SPACED = ["{} ", "{}  ", "{}\t", " {}", "\t{}", "{}\0", "{}\x01", "{}\r", "{}\xe9", "{} x", "{}\x7f"]
HELLO = forms("""
    a_b|localhost|[127.0.0.1]|[IPv6:::1]|127.0.0.1|x.|client.example |[1.2.3]|-bad-.test|@|<x>|a/b|x..y|.|[]|[IPv6:zz]|
    two words|\xff|{a*63}.test|{a*64}.test|{a*300}
""")
PATHS = forms("""
    <{}>|<{}> | <{}>|   <{}>|\t<{}>|<{}>  |{}|<{}|{}>|<<{}>>|<{}>>|< {}>|<{} >|"N" <{}>|<{}>,<{}>|<{}>(c)|<@r.test:{}>|
    <@r.test,@s.test:{}>|<@r.test:@s.test:{}>
""")
LOCAL_PARTS = forms("""
    box|"box"|"a b"|"a\\"b"|"a@b"|"a|a"b|a.|.a|a..b|a b|a@b|a%b.test|b.test!a|a+b|a=b|-a|/a|a,b|a;b|a:b|a(c)|(c)a|a\\@b|""|
    a\x01|a\xe9|{a*64}|{a*65}|{a*255}
""")
DOMAINS = forms("""
    |.|x.|.x|x..y|-x.test|x-.test|x_y.test|xn--a.test|[127.0.0.1]|[IPv6:::1]|[IPv6:1::2::3]|[1.2.3]|[x]|[|127.0.0.1|
    {a*63}.test|{a*64}.test|{abcdefgh.*27}test|{abcdefgh.*40}test|x\xe9.test|x y.test|x,y.test
""")
BARE = ["<>", "", "<", "<postmaster>", "<PostMaster>", '<"postmaster">', "<box>", "<@>"]
MAIL_PARAMETERS = forms("""
    SIZE=0|SIZE=1|SIZE=|SIZE|SIZE=-1|SIZE=x|SIZE=1e3|SIZE=10240000|SIZE=99999999999999999999|SIZE=1 SIZE=2|size=1|SIZE = 1|
    SIZE=1,BODY=7BIT|BODY=7BIT|body=8bitmime|BODY=8BITMIME|BODY=BINARYMIME|BODY=|BODY|BODY=X|BODY=7BIT BODY=7BIT|SMTPUTF8|
    SMTPUTF8=x|SMTPUTF8 SMTPUTF8|RET=FULL|RET=hdrs|RET=|RET=X|RET=FULL RET=HDRS|ENVID=x|ENVID=|ENVID|ENVID=a+2Bb|ENVID=a+2b|
    ENVID=a+2|ENVID=a=b|ENVID={x*100}|ENVID={x*101}|AUTH=<>|AUTH=|NOTIFY=NEVER|FOO|FOO=1|=|=x|X-Y=1|BY=10;R|HOLDFOR=10|
    MT-PRIORITY=3|REQUIRETLS|SIZE=1 BODY=7BIT RET=FULL ENVID=x
""")
RCPT_PARAMETERS = forms("""
    NOTIFY=NEVER|notify=never|NOTIFY=SUCCESS,FAILURE,DELAY|NOTIFY=SUCCESS,SUCCESS|NOTIFY=|NOTIFY|NOTIFY=X|NOTIFY=NEVER,DELAY|
    NOTIFY=,DELAY|NOTIFY=DELAY,|NOTIFY=NEVER NOTIFY=DELAY|ORCPT=rfc822;a@b.test|ORCPT=rfc822;a+40b|ORCPT=rfc822;|ORCPT=;a|
    ORCPT=|ORCPT|ORCPT=x|ORCPT=rfc822;a+2|ORCPT=rfc822;{x*480}|ORCPT=rfc822;{x*501}|ORCPT=rfc822;a ORCPT=rfc822;b|SIZE=1|
    RET=FULL|FOO|FOO=1
""")
HEADER = b"X: 1\r\n\r\n"
CONTENT = {
    "empty": b"",
    "a line": HEADER + b"x\r\n",
    "no header": b"hello\r\n",
    "dots": HEADER + b"..\r\n...\r\n.x\r\n",
    "8 bits": b"X: \xe9\r\n\r\n\xff\r\n",
    "NUL": HEADER + b"a\0b\r\n",
    "a long line": HEADER + b"x" * 5000 + b"\r\n",
    "LF": HEADER + b"a\nb\r\n",
    "CR": HEADER + b"a\rb\r\n",
    "CR CR LF": HEADER + b"a\r\r\n",
    "LF . LF": HEADER + b"a\n.\nb\r\n",
    "CR . CR": HEADER + b"a\r.\rb\r\n",
    "LF . CRLF": HEADER + b"a\n.\r\nb\r\n",
    "CRLF . LF": HEADER + b"a\r\n.\nb\r\n",
    "CRLF . CR": HEADER + b"a\r\n.\rb\r\n",
}
CHUNKS = forms("""
    BDAT 6 LAST|bdat 6 last|BDAT  6  LAST|BDAT 6 LAST |BDAT 006 LAST|BDAT 6 LAST x|BDAT 6 FIRST|BDAT|BDAT LAST|BDAT -6|
    BDAT +6 LAST|BDAT 0x6 LAST|BDAT 99999999999999999999 LAST|BDAT 6\tLAST
""")
TOGETHER = {
    "a whole session": EHLO + MAIL + RCPT + b"DATA\r\nX: 1\r\n\r\nx\r\n.\r\n",
    "two messages": EHLO + (MAIL + RCPT + b"DATA\r\nX: 1\r\n\r\nx\r\n.\r\n") * 2,
    "chunks": EHLO + MAIL + RCPT + b"BDAT 6\r\nX: 1\r\nBDAT 3 LAST\r\n\r\nxNOOP\r\n",
    "chunks that nobody wants": EHLO + MAIL + b"RCPT TO:<x@elsewhere.test>\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n",
    "DATA that nobody wants": EHLO + MAIL + b"RCPT TO:<x@elsewhere.test>\r\nDATA\r\nNOOP\r\n",
    "RSET between": EHLO + MAIL + RCPT + b"RSET\r\n" + MAIL + RCPT + b"RSET\r\nNOOP\r\n",
    "EHLO between": EHLO + MAIL + RCPT + EHLO + b"DATA\r\n" + MAIL,
    "behind QUIT": EHLO + b"QUIT\r\nNOOP\r\n",
    "LF alone": b"EHLO x\nMAIL FROM:<a@client.test>\nRCPT TO:<box@example.com>\nRSET\n",
    "unknown ones": EHLO + b"FOO\r\nBAR x\r\nNOOP\r\n",
    "too many errors": EHLO + b"FOO\r\n" * 30,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header": EHLO + b"Subject: x\r\n\r\nNOOP\r\n",
    "digits and dots": EHLO + b"250 ok\r\n.\r\nNOOP\r\n",
    "empty lines": EHLO + b"\r\n \r\nNOOP\r\n",
    "2,048 octets": EHLO + b"NOOP " + b"x" * 2041 + b"\r\nNOOP\r\n",
    "5,000 octets": EHLO + b"NOOP " + b"x" * 5000 + b"\r\nNOOP\r\n",
    "100,000 octets": EHLO + b"NOOP " + b"x" * 100_000 + b"\r\nNOOP\r\n",
}
GOOD, BAD = (base64.b64encode(f"\0alice\0{password}".encode()).decode() for password in ("secret", "wrong"))
LOGINS = [
    line.format(good=GOOD, bad=BAD, alice="YWxpY2U=", secret="c2VjcmV0", x="eA==")
    for line in forms("""
    AUTH PLAIN {good}|auth plain {good}|AUTH  PLAIN  {good}|AUTH PLAIN {good} |AUTH\tPLAIN {good}|AUTH PLAIN {good} x|
    AUTH PLAIN {bad}|AUTH PLAIN|AUTH|AUTH FOO|AUTH FOO {good}|AUTH PLAIN>{good}|AUTH PLAIN>{bad}|AUTH PLAIN>*|AUTH PLAIN *|
    AUTH PLAIN>***|AUTH PLAIN ***|AUTH PLAIN>|AUTH PLAIN =|AUTH PLAIN>=|AUTH PLAIN {x}|AUTH PLAIN>{x}|AUTH PLAIN> {good}|
    AUTH PLAIN>\xff|AUTH PLAIN>{{A*13000}}|AUTH PLAIN {{A*13000}}|AUTH LOGIN>{alice}>{secret}|AUTH LOGIN>{alice}>{x}|
    AUTH LOGIN {alice}>{secret}|AUTH LOGIN>*|AUTH LOGIN>{alice}>*|AUTH LOGIN>!|AUTH LOGIN>|
    AUTH PLAIN {good}>AUTH PLAIN {good}|AUTH PLAIN {bad}>AUTH PLAIN {good}|AUTH PLAIN {good}>RSET>AUTH PLAIN {good}|
    AUTH PLAIN {good}>EHLO x>AUTH|MAIL FROM:<a@client.test>>AUTH PLAIN {good}|
    AUTH PLAIN {good}>MAIL FROM:<a@client.test> AUTH=<>|AUTH PLAIN {good}>MAIL FROM:<a@client.test> AUTH=a+2|
    AUTH PLAIN {good}>MAIL FROM:<a@client.test> AUTH=a+40b.test|
    AUTH PLAIN {good}>MAIL FROM:<a@client.test>>RCPT TO:<x@elsewhere.test>|
    AUTH PLAIN {bad}>MAIL FROM:<a@client.test>>RCPT TO:<x@elsewhere.test>
""")
]
"""What stands behind a > is said once there is an answer."""

KNOWN = {
    "greeting first": r"at first: MAIL FROM.*",
    "name in EHLO": r"EHLO .*",
    "asking": r".*: (HELP|VRFY x)",
    "QUIT": r"spaces: 'QUIT x'",
    "white space": r"spaces: '(( |\\t)\w+|\w+(\\r|\\x00))'|(MAIL FROM|RCPT TO):'\\t.*|chunk: .*\\t.*",
    "brackets": r"(MAIL FROM|RCPT TO):'(<<.*|box@.*|<.*(>>|>\(c\)))'",
    "local part": r"""(MAIL FROM|RCPT TO):'<(\.a|a\.|a\.\.b|a:b|a\(c\)|\(c\)a|a\\x01|a(\\\\)?@b| box|"postmaster">|@).*""",
    "length": r"(MAIL FROM|RCPT TO):'<\{a\*\d+}@.*",
    "minus": r"MAIL FROM:'<-a@.*",
    "domain": r"(MAIL FROM|RCPT TO):'<box@(x\.|.* |127\.0\.0\.1|\[127\.0\.0\.1])>'",
    "no domain": r"MAIL FROM:'<(box|[Pp]ost[Mm]aster)>'",
    "parameters": r"(MAIL|RCPT) '.*'",
    "login": r"login: .*",
    "bare newlines": r"(DATA|BDAT): .*(CR|LF).*",
    "long lines": r"together: [\d,]+ octets",
    "no SMTP": r"together: (HTTP|a header|digits and dots)",
    "errors": r"together: too many errors",
}
"""A row of the table in docs/rfcs.md to the names of the cases that it explains."""


def octets(text: str) -> bytes:
    """{a*3} is aaa."""
    return re.sub(r"\{(\S+)\*(\d+)\}", lambda found: found[1] * int(found[2]), text).encode("latin-1")


def cases() -> Iterator[tuple[str, list[bytes]]]:
    """Names, and what is said: each piece once there is an answer to the one before."""
    for state, before in STATES.items():
        for verb in VERBS:
            body = b"X: 1\r\n" if verb.startswith("BDAT 6") else b""
            yield f"{state}: {verb}", [*before, octets(verb) + b"\r\n" + body]
    for verb in ("NOOP", "RSET", "QUIT", "DATA", "FOO", "STARTTLS"):
        for form in SPACED:
            yield f"spaces: {form.format(verb)!r}", [EHLO, octets(form.format(verb)) + b"\r\n"]
    for name in HELLO:
        yield f"EHLO {name!r}", [b"EHLO " + octets(name) + b"\r\n"]
    yield from addresses()
    for word in MAIL_PARAMETERS:
        yield f"MAIL {word!r}", [EHLO, MAIL[:-2] + b" " + octets(word) + b"\r\n", RCPT]
    for word in RCPT_PARAMETERS:
        yield f"RCPT {word!r}", [EHLO, MAIL, RCPT[:-2] + b" " + octets(word) + b"\r\n"]
    for name, content in CONTENT.items():
        yield f"DATA: {name}", [EHLO, MAIL, RCPT, b"DATA\r\n", content + b".\r\n"]
        whole = b"BDAT %d LAST\r\n%s" % (len(content), content)
        yield f"BDAT: {name}", [EHLO, MAIL, RCPT, whole]
    for line in CHUNKS:
        yield f"chunk: {line!r}", [EHLO, MAIL, RCPT, octets(line) + b"\r\nX: 1\r\n"]
    for lines in LOGINS:
        yield f"login: {lines}", [EHLO, *(octets(line) + b"\r\n" for line in re.split(r"(?<!test)>", lines))]
    for name, text in TOGETHER.items():
        yield f"together: {name}", [text]


def addresses() -> Iterator[tuple[str, list[bytes]]]:
    for command, before, domain in (("MAIL FROM:", [EHLO], "client.test"), ("RCPT TO:", [EHLO, MAIL], "example.com")):
        paths = [path.replace("{}", f"box@{domain}") for path in PATHS]
        paths += [f"<{part}@{domain}>" for part in LOCAL_PARTS] + [f"<box@{name}>" for name in DOMAINS] + BARE
        for path in paths:
            yield f"{command}{path!r}", [*before, octets(command + path) + b"\r\n"]


def answers(port: int, said: list[bytes]) -> str:
    """The first digit of every reply, a QUIT at the end; a session that goes on answers that with 2."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        try:
            for piece in [b"", *said]:
                client.sendall(piece)
                before = len(replies(heard))
                while len(replies(heard)) == before:
                    heard += received(client)
            client.sendall(b"QUIT\r\n")
            with suppress(OSError):  # it has hung up
                client.shutdown(socket.SHUT_WR)
            while True:
                heard += received(client)
        except ConnectionError:
            return "".join(replies(heard))


def received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionAbortedError
    return data


def replies(heard: bytes) -> list[str]:
    return re.findall(r"^(\d)\d\d(?: .*)?\r\n", heard.decode("latin-1"), re.MULTILINE)


DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
service auth {{
  unix_listener {folder}/sasl {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


class Logins(Daemon):
    """A Dovecot that Postfix asks about logins."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.binary = program("dovecot", "dovecot-core")
        (folder / "users").write_text("alice:{PLAIN}secret::::::\n")
        (folder / "dovecot.conf").write_text(DOVECOT.format(folder=folder))

    def command(self) -> list[str]:
        """dovecot(1) in the foreground."""
        return [self.binary, "-F", "-c", str(self.folder / "dovecot.conf")]


@pytest.fixture
def sasl(folder: Path) -> Iterator[Mapping[str, str]]:
    """Settings of a Postfix that lets "alice" log in with "secret", and relay then."""
    place = folder / "dovecot"
    place.mkdir()
    logins = Logins(place)
    logins.start()
    until((place / "sasl").exists, 10.0, "the socket for logins")
    yield {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": str(place / "sasl"),
        "smtpd_relay_restrictions": "permit_sasl_authenticated,reject_unauth_destination",
    }
    logins.stop()


@pytest.fixture
def ports(
    postfix: Callable[..., Any], start: Callable[..., RunningServer], sasl: Mapping[str, str], folder: Path
) -> tuple[int, int]:
    """Ours, in front of a Postfix that takes everything, and one that does not."""
    permit = {"mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks,reject_unauth_destination"}
    mx = postfix({"mx": sasl, "sink": permit})
    (folder / "users").write_text(f"alice {passwords.make('secret')}\n")
    users = f'[limits]\nauth_delay = 0\n[users.staff]\nkind = "file"\npath = "{folder / "users"}"'
    offered = 'auth = "staff"\nauth_without_tls = true'
    ours = start(one_listener("proxy", f"127.0.0.1:{mx.ports['sink']}", listener=offered, more=users))
    return ours.port, mx.ports["mx"]


def test_what_differs_is_known(ports: tuple[int, int]) -> None:
    said = dict(cases())
    assert len(said) >= 300
    found = {name: tuple(answers(port, text) for port in ports) for name, text in said.items()}
    different = {name: heard for name, heard in found.items() if len(set(heard)) > 1}
    known = {row: {name for name in different if re.fullmatch(pattern, name)} for row, pattern in KNOWN.items()}
    assert {name: heard for name, heard in different.items() if not any(name in names for names in known.values())} == {}
    assert [row for row, names in known.items() if not names] == []


def test_each_difference_has_its_reason_in_the_manual() -> None:
    table = (Path(__file__).parents[2] / "docs/rfcs.md").read_text().partition("## Where Postfix answers otherwise")[2]
    assert re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE) == list(KNOWN)
