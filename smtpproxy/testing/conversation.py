"""One connection to a fake upstream: SMTP as the other side of the wire speaks it, apart from our own parser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from smtpproxy.testing.acts import DROP, HANG, Hold
from smtpproxy.wire.proxyheader import ProxyHeader, ProxyHeaderError, parse

if TYPE_CHECKING:
    from smtpproxy.testing.upstream import FakeUpstream


class Gone(Exception):
    """The connection is over."""


class Received:
    """A message that was answered with 2xx: its envelope, its bytes on the wire (stuffed, without the final dot; BDAT: as is)."""

    __slots__ = ("content", "conversation", "params", "recipients", "sender", "wire", "xclient", "xforward")

    def __init__(
        self, sender: str, params: str, recipients: list[str], wire: bytes, conversation: Conversation, stuffed: bool = True
    ) -> None:
        self.sender = sender
        self.params = params
        self.recipients = recipients
        self.wire = wire
        self.content = (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:] if stuffed else wire
        """The message without the dots that the wire needed (RFC 5321 4.5.2)."""
        self.conversation = conversation
        self.xclient = dict(conversation.xclient)
        self.xforward = dict(conversation.xforward)

    @property
    def header(self) -> bytes:
        """Everything before the blank line."""
        return self.content.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self) -> bytes:
        """Everything after the blank line."""
        return self.content.partition(b"\r\n\r\n")[2]


class Conversation:
    """What was said on one connection: `commands` as text, `wire` as it came, `reads` as it came apart.

    `xclient` holds the attributes of the last XCLIENT, decoded; `xforward` those of the last XFORWARD.
    """

    def __init__(self, upstream: FakeUpstream, channel: Any) -> None:
        self.commands: list[str] = []
        self.messages: list[Received] = []
        self.reads: list[bytes] = []
        self.xclient: dict[str, str] = {}
        self.xforward: dict[str, str] = {}
        self.proxy: ProxyHeader | None = None
        """What it began with, where it must."""
        self.tls = ""
        """The version of TLS once it is spoken."""
        self.closed = False
        self._upstream = upstream
        self._channel = channel
        self._buffer = b""
        self._forget()
        self._hello = ""

    @property
    def wire(self) -> bytes:
        """All that came, as it came."""
        return b"".join(self.reads)

    def run(self) -> None:
        """Talk until one side hangs up."""
        try:
            if self._upstream.proxy:
                self.proxy = self._header()
            self._act("greeting", "", f"220 {self._upstream.hostname} ESMTP")
            while True:
                self._command(self._line())
        except (Gone, OSError):
            pass
        finally:
            self.hang_up()

    def _header(self) -> ProxyHeader:
        while True:
            self._read()
            try:
                header = parse(self._buffer)
            except ProxyHeaderError:
                raise Gone from None
            if header is not None:
                self._buffer = self._buffer[header.length :]
                return header

    def reset(self) -> None:
        """Forget what was said so far, but not where the conversation stands."""
        self.commands.clear()
        self.messages.clear()
        self.reads.clear()

    def hang_up(self) -> None:
        """Close the connection."""
        self.closed = True
        self._channel.close()

    def _forget(self) -> None:
        self._sender: str | None = None
        self._params = ""
        self._recipients: list[str] = []
        self._chunks: bytearray | None = None

    def _command(self, line: bytes) -> None:
        text = line.decode("utf-8", "surrogateescape")
        self.commands.append(text)
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        handlers = {
            "EHLO": self._ehlo, "HELO": self._ehlo, "LHLO": self._ehlo, "MAIL": self._mail, "RCPT": self._rcpt,
            "DATA": self._data, "BDAT": self._bdat, "RSET": self._rset, "QUIT": self._quit, "XCLIENT": self._xclient,
            "XFORWARD": self._xforward, "NOOP": self._noop, "STARTTLS": self._starttls,
        }  # fmt: skip
        handlers.get(verb, self._unknown)(verb, argument)

    def _unknown(self, verb: str, argument: str) -> None:
        self._act(verb, argument, "500 5.5.1 Not known")

    def _noop(self, verb: str, argument: str) -> None:
        self._act(verb, argument, "250 2.0.0 Ok")

    def _ehlo(self, verb: str, argument: str) -> None:
        wrong = verb == "HELO" if self._upstream.lmtp else verb == "LHLO"
        if wrong:
            return self._unknown(verb, argument)
        self._forget()
        keywords = self._upstream.keywords_after_xclient if self.xclient else self._upstream.keywords
        if self._upstream.tls is not None and not self.tls:
            keywords = [*keywords, "STARTTLS"]
        lines = [self._upstream.hostname, *(keywords if verb != "HELO" else [])]
        usual = "\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)
        if self._act(verb, argument, usual):
            self._hello = argument

    def _starttls(self, verb: str, argument: str) -> None:
        if self._upstream.tls is None:
            return self._unknown(verb, argument)
        if self._act(verb, argument, "220 2.0.0 Ready"):
            self._channel = self._upstream.tls.wrap_socket(self._channel, server_side=True)
            self._buffer = b""
            self.tls = self._channel.version()

    def _mail(self, verb: str, argument: str) -> None:
        if not self._hello or self._sender is not None:
            return self._send("503 5.5.1 Not now")
        if self._act(verb, argument, "250 2.1.0 Sender ok"):
            self._sender, self._params = _path(argument)

    def _rcpt(self, verb: str, argument: str) -> None:
        if self._sender is None:
            return self._send("503 5.5.1 MAIL first")
        if self._act(verb, argument, "250 2.1.5 Recipient ok"):
            self._recipients.append(_path(argument)[0])

    def _data(self, verb: str, argument: str) -> None:
        if not self._recipients:
            return self._send("554 5.5.1 No valid recipients")
        if not self._act(verb, argument, "354 End with a dot"):
            return
        self._answer_for(self._read_message())

    def _bdat(self, verb: str, argument: str) -> None:
        """RFC 3030 2; a chunk that is refused ends the transaction."""
        size, _, last = argument.partition(" ")
        data = self._read_octets(int(size))
        if not self._recipients:
            return self._send("503 5.5.1 RCPT first")
        if self._chunks is None:
            self._chunks = bytearray()
            self._body_act()
        self._chunks += data
        if last.upper() == "LAST":
            self._answer_for(bytes(self._chunks), stuffed=False)
        elif not self._act(verb, argument, f"250 2.0.0 {size} octets"):
            self._forget()

    def _answer_for(self, wire: bytes, stuffed: bool = True) -> None:
        sender, recipients = self._sender or "", list(self._recipients)
        message = Received(sender, self._params, recipients, wire, self, stuffed)
        if self._upstream.lmtp:
            message.recipients = [
                recipient for recipient in recipients if self._act("dot", recipient, f"250 2.1.5 <{recipient}> Saved")
            ]
            taken = bool(message.recipients)
        else:
            taken = self._act("dot", ", ".join(recipients), "250 2.0.0 Ok: taken")
        if taken:
            self.messages.append(message)
        self._forget()
        self.xforward = {}

    def _rset(self, verb: str, argument: str) -> None:
        self._forget()
        self.xforward = {}
        self._act(verb, argument, "250 2.0.0 Ok")

    def _quit(self, verb: str, argument: str) -> None:
        self._act(verb, argument, "221 2.0.0 Bye")
        raise Gone

    def _xclient(self, verb: str, argument: str) -> None:
        if not self._announced("XCLIENT"):
            return self._act_none("550 5.7.0 You are not authorised to use XCLIENT", verb, argument)
        if self._act(verb, argument, f"220 {self._upstream.hostname} ESMTP"):
            self.xclient = _attributes(argument)
            self._hello = ""
            self._forget()

    def _xforward(self, verb: str, argument: str) -> None:
        if not self._announced("XFORWARD"):
            return self._act_none("550 5.7.0 You are not authorised to use XFORWARD", verb, argument)
        if self._act(verb, argument, "250 2.0.0 Ok"):
            self.xforward |= _attributes(argument)

    def _announced(self, verb: str) -> bool:
        return any(keyword.startswith(verb) for keyword in self._upstream.keywords)

    def _act_none(self, usual: str, verb: str, argument: str) -> None:
        self._act(verb, argument, usual)

    def _act(self, stage: str, argument: str, usual: str) -> bool:
        """Do what was ordered for the stage, or the usual. True when that was a positive reply."""
        act = self._ordered(stage, argument)
        if isinstance(act, bytes):
            self._channel.sendall(act)
            return False
        reply = str(act or usual)
        self._send(reply)
        return reply[0] in "23"

    def _ordered(self, stage: str, argument: str) -> object:
        """The act ordered for the stage once it is let go; hanging up and hanging are done here and raise Gone."""
        act = self._upstream.act(stage, argument)
        while isinstance(act, Hold):
            act.wait()
            act = act.act
        if act is DROP:
            raise Gone
        if act is HANG:
            self._read_to_the_end()
        return act

    def _send(self, reply: str) -> None:
        self._channel.sendall("".join(f"{line}\r\n" for line in reply.split("\n")).encode("utf-8", "surrogateescape"))

    def _read(self) -> None:
        chunk = self._channel.recv(65536)
        if not chunk:
            raise Gone
        self.reads.append(chunk)
        self._buffer += chunk

    def _read_to_the_end(self) -> None:
        while True:
            self._read()
            self._buffer = b""

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _read_octets(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._read()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _read_message(self) -> bytes:
        """Everything up to CRLF.CRLF, and that only, without the dot's line."""
        data = bytearray(b"\r\n")
        ordered = False
        while True:
            start = max(0, len(data) - 4)
            data += self._buffer
            self._buffer = b""
            if len(data) > 2 and not ordered:
                ordered = True
                self._body_act()
            end = data.find(b"\r\n.\r\n", start)
            if end >= 0:
                self._buffer = bytes(data[end + 5 :])
                return bytes(data[2 : end + 2])
            self._read()

    def _body_act(self) -> None:
        act = self._ordered("body", "")
        if act is not None:
            self._send(str(act))
            raise Gone


def _path(argument: str) -> tuple[str, str]:
    found = re.match(r"(?:FROM|TO):\s*<(.*?)>\s*(.*)$", argument, re.IGNORECASE | re.DOTALL)
    return (found[1], found[2]) if found else (argument, "")


def _attributes(argument: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in argument.split())
    return {name.upper(): _xtext(value) for name, _, value in pairs}


def _xtext(text: str) -> str:
    return re.sub(r"\+([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
