"""A login as rules see it while it is tried."""

from __future__ import annotations

from smtpproxy.facts.missing import Fact, put


class Login(Fact):
    """A name and what proves it.  As text it is the name; the proof is for the rule that checks it, and for nobody else."""

    __slots__ = ("mechanism", "name", "password")
    _noun = "login"

    name: str
    """Who it wants to be."""
    password: str
    """As the client sent it: a password, a token, a key."""
    mechanism: str
    """Of SASL (RFC 4422), in upper case: "PLAIN", "LOGIN"."""

    def __init__(self, name: str, password: str = "", mechanism: str = "PLAIN") -> None:
        put(self, "name", name)
        put(self, "password", password)
        put(self, "mechanism", mechanism)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Login {self.name} by {self.mechanism}>"
