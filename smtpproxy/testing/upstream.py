"""A server behind ours that does what it is told: answers, refuses, hangs, hangs up, talks nonsense."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from gevent.server import StreamServer

from smtpproxy.testing.acts import Order
from smtpproxy.testing.conversation import Conversation, Received
from smtpproxy.testing.waiting import until

KEYWORDS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class FakeUpstream:
    """An SMTP (or LMTP) server on the loopback, on a port of the system's choice; a context manager.

    `keywords` are announced to EHLO; "XCLIENT NAME ADDR ..." and "XFORWARD ..." among them are also obeyed. After an
    XCLIENT, `keywords_after_xclient` are announced (the same without XCLIENT unless told otherwise).
    With `tls` it offers STARTTLS. With `proxy` every connection begins with a PROXY header, or is hung up on.
    """

    def __init__(
        self,
        *,
        keywords: Sequence[str] = KEYWORDS,
        keywords_after_xclient: Sequence[str] | None = None,
        lmtp: bool = False,
        hostname: str = "upstream.example",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        proxy: bool = False,
    ) -> None:
        self.proxy = proxy
        self.tls = tls
        self.keywords = list(keywords)
        self._after_xclient = keywords_after_xclient
        self.lmtp = lmtp
        self.hostname = hostname
        self.conversations: list[Conversation] = []
        self._orders: list[Order] = []
        self._server = StreamServer(("127.0.0.1", port), self._serve)
        self._server.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.address[1])

    @property
    def address(self) -> str:
        """For the configuration's `to`."""
        return f"{'lmtp://' if self.lmtp else ''}127.0.0.1:{self.port}"

    @property
    def keywords_after_xclient(self) -> list[str]:
        """What EHLO announces once the client's identity was handed over."""
        if self._after_xclient is not None:
            return list(self._after_xclient)
        return [keyword for keyword in self.keywords if not keyword.startswith("XCLIENT")]

    def on(self, stage: str, *acts: Any, argument: str = "") -> None:
        """From now on act like this at a stage; the newest order that fits counts."""
        self._orders.insert(0, Order(stage, argument, acts))

    def act(self, stage: str, argument: str) -> Any:
        """The act ordered for a stage, None for the usual. Used by the conversation."""
        for order in self._orders:
            if order.fits(stage, argument):
                return order.next()
        return None

    def reset(self) -> None:
        """Forget the orders and what was said; connections that are open stay open."""
        self._orders.clear()
        self.conversations = [conversation for conversation in self.conversations if not conversation.closed]
        for conversation in self.conversations:
            conversation.reset()

    @property
    def messages(self) -> list[Received]:
        """The messages it answered for with 2xx, in the order their conversations began."""
        return [message for conversation in self.conversations for message in conversation.messages]

    @property
    def commands(self) -> list[str]:
        """Every command line of every conversation, in the order they came within each."""
        return [line for conversation in self.conversations for line in conversation.commands]

    def wait_for(self, condition: Callable[[FakeUpstream], Any], within: float = 10.0) -> Any:
        """Wait until something is true of this upstream. Raises AssertionError after `within` seconds."""
        return until(lambda: condition(self), within, "at the upstream")

    def refuse_connections(self) -> None:
        """Close the port and all connections, like a server that died."""
        self._server.stop(timeout=0)
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections, and go on listening."""
        for conversation in self.conversations:
            conversation.hang_up()

    def stop(self) -> None:
        """End it."""
        self.refuse_connections()

    def _serve(self, channel: Any, peer: Any) -> None:
        conversation = Conversation(self, channel)
        self.conversations.append(conversation)
        conversation.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
