"""All that a rule can reach, in one table: what it may read, assign and call, by class.

The bridge to Lua knows nothing else; the manual's list of objects is made from it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from itertools import pairwise

from smtpproxy.facts.capabilities import Capabilities
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.copies import Copy
from smtpproxy.facts.delivery import Delivery
from smtpproxy.facts.login import Login
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.missing import FactMissing
from smtpproxy.facts.notes import Notes, Result, Results
from smtpproxy.facts.parts import Part, PartHeader
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.facts.scan import Scan
from smtpproxy.facts.tls import Certificate, Tls
from smtpproxy.facts.views import BodyView, HeaderView
from smtpproxy.message.body import Body, StoredBody
from smtpproxy.message.mailboxes import Mailbox
from smtpproxy.wire.address import Address

__all__ = ["SURFACE", "FactMissing", "help_text", "names"]


Names = Mapping[str, frozenset[str]]
"""By "read", "write" and "call"."""


def _names(read: str, write: str = "", call: str = "") -> Names:
    return {"read": frozenset(read.split()), "write": frozenset(write.split()), "call": frozenset(call.split())}


# Notes and header fields are reached by index as well: any name of a note, any name of a field.
SURFACE: Mapping[type, Names] = {
    Client: _names(
        "id address port connected_address name helo esmtp tls login listener notes results relay forwarded trusted"
        " errors recipients_refused mails octets spoke_early",
        "relay",
    ),
    Tls: _names("version cipher bits server_name resumed certificate"),
    Certificate: _names("subject issuer names fingerprint"),
    ListenerFacts: _names("name address port hostname protocol"),
    Capabilities: _names(""),
    Login: _names("name password mechanism"),
    Mail: _names(
        "id client sender recipients params header body original notes results via smtputf8 body8bit binary size_declared repeats"
        " parts attachments text html mime_defects copies",
        "sender via",
        "add_recipient remove_recipient seal raw skip_rule keep_trace append_text attach copy_for add_copy",
    ),
    Copy: _names(
        "name recipients header body original parts attachments text html mime_defects", "", "raw append_text attach seal"
    ),
    Sender: _names("local_part domain notes params"),
    Recipient: _names(
        "local_part domain address original notes params relay via copy verdict", "local_part domain address relay via verdict"
    ),
    Address: _names("local_part domain"),
    Delivery: _names(
        "id sender recipients host reply kind attempts age notes results notice notice_subject", "notice notice_subject"
    ),
    Mailbox: _names("local_part domain phrase"),
    HeaderView: _names("", "", "get get_all addresses add prepend remove"),
    BodyView: _names("size", "", "bytes chunks replace append splice"),
    Part: _names(
        "header content_type parameters charset disposition filename encoding parts is_attachment embedded signed size text",
        "",
        "content read sha256 replace_text replace remove",
    ),
    PartHeader: _names("", "", "get get_all"),
    Body: _names("size", "", "content"),
    StoredBody: _names("size", "", "content"),
    Notes: _names(""),
    Results: _names("", "", "add get"),
    Scan: _names("infected clean name too_large value server"),
    Result: _names("name value keys"),
}


def names(kind: type) -> frozenset[str]:
    """Everything a rule can say after the dot."""
    surface = SURFACE[kind]
    return surface["read"] | surface["call"]


def help_text(kind: type, name: str) -> str:
    """What its author wrote of a name, in one line: a docstring, or the text below an attribute."""
    member = inspect.getattr_static(kind, name, None)
    member = getattr(member, "func", member)
    if isinstance(member, property) or callable(member):
        return " ".join((inspect.getdoc(member) or "").split())
    return next((found[name] for base in kind.__mro__[:-1] if name in (found := _attribute_texts(base))), "")


def _attribute_texts(kind: type) -> dict[str, str]:
    """The texts below the attributes of a class, those that its constructor sets among them."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
        body = getattr(node, "body", None)
        for statement, below in pairwise(body if isinstance(body, list) else []):
            name, text = _assigned(statement), below.value if isinstance(below, ast.Expr) else None
            if name and isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[name] = " ".join(text.value.split())
    return found


def _assigned(statement: ast.stmt) -> str:
    """`port` of `port: int` and of `self.port = port`."""
    target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
    if isinstance(statement, ast.Assign):
        (target, *_) = statement.targets
    return target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
