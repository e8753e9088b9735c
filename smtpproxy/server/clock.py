"""Time and ids of the running process."""

from __future__ import annotations

import os
import time

from smtpproxy.message.trace import smtp_date

_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"  # no vowels: ids never spell a word


class SystemClock:
    """The machine's clock; the header date is made once a second."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def date(self) -> str:
        second = int(time.time())
        if second != self._second:
            local = time.localtime(second)
            self._date = smtp_date(second, (local.tm_gmtoff or 0) // 60)
            self._second = second
        return self._date


class Ids:
    """Ids that no other process and no other run gives: a random beginning, then a count."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = _digits(int.from_bytes(os.urandom(5), "big"))
        self._count = int.from_bytes(os.urandom(2), "big")

    def __call__(self) -> str:
        self._count += 1
        return self._prefix + _digits(self._count)


def _digits(number: int) -> str:
    text = ""
    while True:
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
        if not number:
            return text
