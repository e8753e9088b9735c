"""What EHLO is about to offer, as on_capabilities may change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType

from smtpproxy.facts.missing import Fact, put


class Capabilities(Fact):
    """Keywords with the words behind them ("" when there are none): ``offer["SIZE"]``, None for what is not offered.

    A rule may take away, and set other words; what we do not offer by ourselves it cannot add.
    """

    __slots__ = ("_offered",)
    _noun = "offer"
    _offered: dict[str, str]

    def __init__(self, offered: Mapping[str, str]) -> None:
        put(self, "_offered", dict(offered))

    def __getitem__(self, keyword: str) -> str | None:
        return self._offered.get(keyword.upper())

    def __setitem__(self, keyword: str, words: str | int | None) -> None:
        """Other words for a keyword; None takes it away.

        Raises ValueError for one that is not offered and for what EHLO cannot say, TypeError for what is no text.
        """
        if type(keyword) is not str or type(words) not in (str, int, NoneType):
            raise TypeError("an offer has a keyword and words behind it: a text, or a number")
        if words is None:
            self._offered.pop(keyword.upper(), None)
        elif keyword.upper() not in self._offered:
            raise ValueError(f"{keyword} is not offered: a rule can take away of the offer, not add to it")
        else:
            text = str(words)
            if not (text.isascii() and text.isprintable()):  # RFC 5321 4.1.1.1
                raise ValueError(f"EHLO cannot say {words!r}")
            self._offered[keyword.upper()] = " ".join(text.split())

    def __delitem__(self, keyword: str) -> None:
        self[keyword] = None

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and keyword.upper() in self._offered

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(list(self._offered.items()))

    def __len__(self) -> int:
        return len(self._offered)
