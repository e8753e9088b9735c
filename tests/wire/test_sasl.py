"""SASL, step by step: the vectors of the RFCs, another implementation at the other end, and whatever else may be said."""

from __future__ import annotations

import base64
import hashlib

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire import sasl, scram
from smtpproxy.wire.sasl import Cancelled, Channel, Claim, Malformed, begin
from smtpproxy.wire.saslprep import saslprep
from smtpproxy.wire.scram import PLUS, SHA256, NotProved, ScramError, ScramKeys

NONCE = "rOprNGfwEbeRWgbNEkqO"
THEIRS = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
KEYS = ScramKeys.derive("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
END_POINT = hashlib.sha256(b"certificate").digest()


def channel(**more: object) -> Channel:
    return Channel(**{"keys": lambda name: KEYS, "nonce": THEIRS, **more})  # type: ignore[arg-type]


def converse(mechanism: str, *responses: bytes, **more: object) -> tuple[list[bytes], Claim]:
    """The challenges, and the claim in the end."""
    exchange = begin(mechanism, channel(**more))
    challenges = [next(exchange)]
    for response in responses:
        try:
            challenges.append(exchange.send(response))
        except StopIteration as end:
            return challenges, end.value
    raise AssertionError(f"another challenge: {challenges[-1]!r}")


# -- the server's side ---------------------------------------------------------------------------------------------------


def test_plain() -> None:
    """RFC 4616 4."""
    assert converse("PLAIN", b"\0tim\0tanstaaftanstaaf") == ([b""], Claim("tim", "tanstaaftanstaaf"))
    assert converse("PLAIN", b"tim\0tim\0x")[1] == Claim("tim", "x")
    with pytest.raises(NotProved, match="Kurt wants to act for somebody else"):
        converse("PLAIN", b"Ursel\0Kurt\0xipj3plmq")


@pytest.mark.parametrize("wrong", [b"", b"tim", b"\0tim", b"\0\0secret", b"\0a\0b\0c", b"\0\xff\0x"])
def test_what_is_no_plain(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        converse("PLAIN", wrong)


def test_login() -> None:
    assert converse("LOGIN", b"tim", b"secret") == ([b"Username:", b"Password:"], Claim("tim", "secret"))
    for responses in ((b"", b"x"), (b"a\0b", b"x"), (b"\xff", b"x")):
        with pytest.raises(Malformed):
            converse("LOGIN", *responses)


def test_scram_as_in_the_rfc() -> None:
    """RFC 7677 3."""
    challenges, claim = converse(
        SHA256,
        f"n,,n=user,r={NONCE}".encode(),
        f"c=biws,r={NONCE}{THEIRS},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode(),
        b"",
    )
    assert challenges[1:] == [
        f"r={NONCE}{THEIRS},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode(),
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ]
    assert claim == Claim("user", proved=True)


@pytest.mark.parametrize("mechanism", [SHA256, PLUS])
def test_another_client_proves_itself_and_is_proved_to(mechanism: str) -> None:
    plus = mechanism == PLUS
    binding = ("tls-server-end-point", END_POINT) if plus else None
    client = scramp.ScramClient([mechanism], "us,=er", "pencil", channel_binding=binding)
    exchange = begin(mechanism, channel(end_point=END_POINT if plus else b""))
    next(exchange)
    client.set_server_first(exchange.send(client.get_client_first().encode()).decode())
    client.set_server_final(exchange.send(client.get_client_final().encode()).decode())
    with pytest.raises(StopIteration) as end:
        exchange.send(b"")
    assert end.value.value == Claim("us,=er", proved=True)


def test_a_wrong_password_is_not_proved() -> None:
    client = scramp.ScramClient([SHA256], "user", "pencils")
    exchange = begin(SHA256, channel())
    next(exchange)
    client.set_server_first(exchange.send(client.get_client_first().encode()).decode())
    with pytest.raises(NotProved, match="wrong proof"):
        exchange.send(client.get_client_final().encode())


def test_a_login_bound_to_another_channel_is_not_proved() -> None:
    client = scramp.ScramClient([PLUS], "user", "pencil", channel_binding=("tls-server-end-point", b"another certificate"))
    exchange = begin(PLUS, channel(end_point=END_POINT))
    next(exchange)
    client.set_server_first(exchange.send(client.get_client_first().encode()).decode())
    with pytest.raises(NotProved, match="another channel"):
        exchange.send(client.get_client_final().encode())


@pytest.mark.parametrize(
    ("mechanism", "first", "error"),
    [
        (SHA256, "y,,n=user,r=x", "hidden"),
        (SHA256, "p=tls-server-end-point,,n=user,r=x", "do not fit"),
        (PLUS, "n,,n=user,r=x", "do not fit"),
        (PLUS, "p=tls-exporter,,n=user,r=x", "channel binding tls-exporter is not supported"),
        (SHA256, "n,,n=,r=x", "none of SCRAM"),
        (SHA256, "n,,m=ext,n=user,r=x", "none of SCRAM"),
        (SHA256, "n,,n=us=er,r=x", "stands for nothing"),
        (SHA256, "n,,n=user", "none of SCRAM"),
        (SHA256, "n,n=user,r=x", "no GS2 header"),
        (SHA256, "", "no GS2 header"),
    ],
)
def test_how_scram_does_not_begin(mechanism: str, first: str, error: str) -> None:
    with pytest.raises((Malformed, NotProved), match=error):
        converse(mechanism, first.encode(), end_point=END_POINT)


@pytest.mark.parametrize("final", ["c=biws,r=other,p=AAAA", f"c=eSws,r=x{THEIRS},p=AAAA", "c=biws", "", "c=!,r=x,p=AAAA"])
def test_how_scram_does_not_end(final: str) -> None:
    with pytest.raises((Malformed, NotProved)):
        converse(SHA256, b"n,,n=user,r=x", final.encode())


def test_nobody_acts_for_somebody_else_by_scram() -> None:
    exchange = begin(SHA256, channel())
    next(exchange)
    bare = f"n=user,r={NONCE}"
    challenge = exchange.send(f"n,a=root,{bare}".encode()).decode()
    unproved = f"c={base64.b64encode(b'n,a=root,').decode()},r={NONCE}{THEIRS}"
    salted = scram.salted("pencil", KEYS.salt, KEYS.rounds)
    key = scram._hmac(salted, b"Client Key")
    proof = scram._xor(key, scram._hmac(KEYS.stored, f"{bare},{challenge},{unproved}".encode()))
    exchange.send(f"{unproved},p={base64.b64encode(proof).decode()}".encode())
    with pytest.raises(NotProved, match="act for somebody else"):
        exchange.send(b"")


def test_tokens() -> None:
    """RFC 7628 4.1, and what Google and Microsoft call XOAUTH2."""
    fields = b"host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==\x01\x01"
    claim = Claim("user@example.com", "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==")
    assert converse("OAUTHBEARER", b"n,a=user@example.com,\x01" + fields) == ([b""], claim)
    assert converse("OAUTHBEARER", b"n,,\x01" + fields)[1] == claim._replace(name="")
    assert converse("XOAUTH2", b"user=me@example.com\x01auth=bearer ya29.vF9\x01\x01")[1] == Claim("me@example.com", "ya29.vF9")
    assert sasl.refusal("XOAUTH2") and sasl.refusal("OAUTHBEARER") and not sasl.refusal("PLAIN")


@pytest.mark.parametrize("wrong", [b"", b"user=a\x01auth=Bearer x", b"user=a\x01auth=Basic x\x01\x01", b"\xff\x01\x01"])
def test_what_is_no_token(wrong: bytes) -> None:
    for mechanism in ("XOAUTH2", "OAUTHBEARER"):
        with pytest.raises(Malformed):
            converse(mechanism, wrong)
    with pytest.raises(Malformed):
        converse("OAUTHBEARER", b"p=x,,\x01auth=Bearer x\x01\x01")


def test_external() -> None:
    """RFC 4422 A: the client says nothing, or which of its names it means."""
    certified = ("ann@example.com", "client.example")
    assert converse("EXTERNAL", b"", certified=certified)[1] == Claim("ann@example.com", proved=True)
    assert converse("EXTERNAL", b"client.example", certified=certified)[1] == Claim("client.example", proved=True)
    for said, names in ((b"bob@example.com", certified), (b"", ())):
        with pytest.raises(NotProved):
            converse("EXTERNAL", said, certified=names)


def test_lines() -> None:
    """RFC 4954 4."""
    assert sasl.initial(b"") is None
    assert sasl.initial(b"=") == b""
    assert sasl.initial(b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm") == b"\0tim\0tanstaaftanstaaf"
    assert sasl.decode(b"") == b""
    with pytest.raises(Cancelled):
        sasl.decode(b"*")
    for wrong in (b"=", b"abc", b"ab c", b"a===", b"\xff\xff\xff\xff", b"YWJj\0"):
        with pytest.raises(Malformed):
            sasl.decode(wrong)


@given(st.sampled_from(sasl.MECHANISMS), st.lists(st.binary(max_size=80), max_size=4))
def test_whatever_is_said_it_is_malformed_not_proved_or_a_claim(mechanism: str, responses: list[bytes]) -> None:
    exchange = begin(mechanism, channel(end_point=END_POINT, certified=("a",)))
    outcome: object = next(exchange)
    try:
        for response in responses:
            outcome = exchange.send(response)
    except (Malformed, NotProved):
        return
    except StopIteration as end:
        outcome = end.value
    assert isinstance(outcome, bytes | Claim)
    assert not (isinstance(outcome, Claim) and outcome.proved) or mechanism == "EXTERNAL"


# -- the client's side ---------------------------------------------------------------------------------------------------


def test_our_client_says_what_the_rfc_says() -> None:
    asking = scram.ask("user", "pencil", NONCE)
    assert next(asking) == f"n,,n=user,r={NONCE}".encode()
    assert asking.send(f"r={NONCE}{THEIRS},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()) == (
        f"c=biws,r={NONCE}{THEIRS},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    )
    assert asking.send(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""


def test_a_server_that_does_not_know_the_password_gets_found_out() -> None:
    asking = scram.ask("user", "pencil", NONCE)
    next(asking)
    asking.send(f"r={NONCE}{THEIRS},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
    with pytest.raises(NotProved):
        asking.send(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize(
    "challenge", ["", "r=other,s=AAAA,i=1", f"r={NONCE}x,s=AAAA,i=99999999999", f"r={NONCE}x,s=AAAA,i=2000000000", "e=other"]
)
def test_a_challenge_that_is_none(challenge: str) -> None:
    asking = scram.ask("user", "pencil", NONCE)
    next(asking)
    with pytest.raises(ScramError):
        asking.send(challenge.encode())


@pytest.mark.parametrize(
    ("offered", "mechanism", "first"),
    [
        ("PLAIN LOGIN SCRAM-SHA-256", SHA256, b"n,,n=user,r=x"),
        ("LOGIN PLAIN", "PLAIN", b"\0user\0pencil"),
        ("login", "LOGIN", None),
        ("", "PLAIN", b"\0user\0pencil"),
    ],
)
def test_our_client_takes_the_best_of_what_is_offered(offered: str, mechanism: str, first: bytes | None) -> None:
    chosen, answers = sasl.log_in(offered, "user", "pencil", "x")
    assert (chosen, next(answers)) == (mechanism, first)


def test_both_sides_of_ours_with_a_channel() -> None:
    exchange, asking = begin(PLUS, channel(end_point=END_POINT)), scram.ask("user", "pencil", NONCE, END_POINT)
    next(exchange)
    said = next(asking)
    for _ in range(2):
        said = asking.send(exchange.send(said or b""))
    with pytest.raises(StopIteration) as end:
        exchange.send(said or b"")
    assert end.value.value == Claim("user", proved=True)


# -- names and passwords -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b"),
        ("\U0001f511", "\U0001f511"),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    """RFC 4013 3."""
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "\ud800", "a\u0627", "\ue000", "a\nb"])
def test_what_saslprep_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed|mixed"):
        saslprep(text)


def test_keys_as_text() -> None:
    assert ScramKeys.parse(str(KEYS)) == KEYS
    for wrong in ("", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-1$1:a$b:c"):
        with pytest.raises(ValueError, match="SCRAM-SHA-256"):
            ScramKeys.parse(wrong)
