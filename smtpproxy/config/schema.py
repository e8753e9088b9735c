"""Every setting there is: a struct for each table, a field for each setting, with the words of the manual.

`Config()` with nothing given is a usable default. Durations are seconds, sizes octets, 0 in a limit means none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from smtpproxy.config.about import INTERNAL, Count, about, vouching
from smtpproxy.config.limits import Limits
from smtpproxy.config.log import Log
from smtpproxy.config.queue import Queue, Route
from smtpproxy.config.users import Users
from smtpproxy.config.values import Domains, Duration, Endpoint, Hostname, Networks, ScannerTarget, Size, Target


class ListenerTls(Struct, frozen=True, kw_only=True):
    """TLS at a listener; without a certificate there is none. Renewed certificates are taken up by themselves."""

    cert: Annotated[Path | None, about("The certificate with its chain (PEM).")] = None
    key: Annotated[Path | None, about("Its key (PEM); without it the key stands in the file of the certificate.")] = None
    folder: Annotated[
        Path | None,
        about("Instead of cert and key, a folder of certificates: clients get the one for the name they ask for (SNI)."),
    ] = None
    mode: Annotated[
        Literal["starttls", "required", "implicit"],
        about(
            "starttls: offered. required: mail is taken only after STARTTLS. "
            "implicit: the connection begins with TLS, as on port 465 (RFC 8314)."
        ),
    ] = "starttls"
    exempt: Annotated[Networks, about("Networks whose clients may send without TLS where it is required.")] = Networks()
    minimum: Annotated[Literal["1.2", "1.3"], about("The oldest version of TLS that is spoken.")] = "1.2"
    ciphers: Annotated[str, about("Ciphers for TLS 1.2, as OpenSSL writes them; empty for a modern choice.")] = ""
    clients: Annotated[
        Literal["none", "request", "require"],
        about("Whether clients are asked for a certificate. One that ca does not vouch for ends the handshake."),
    ] = "none"
    ca: Annotated[Path | None, vouching("clients' certificates")] = None

    @property
    def wanted(self) -> bool:
        return self.cert is not None or self.folder is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read: a change of one of them is a renewal."""
        return tuple(path for path in (self.cert, self.key, self.folder, self.ca) if path is not None)


class Listener(Struct, frozen=True, kw_only=True):
    """Where mail comes in. One table for each listener; the name is yours and appears in the log."""

    bind: Annotated[
        tuple[Endpoint, ...],
        about('Addresses to listen on: "host:port", "[IPv6]:port" or "unix:/path", one or a list of them.'),
    ]
    socket_mode: Annotated[
        str, Meta(pattern="^0?[0-7]{3}$", description="Who may connect to a Unix socket that is listened on, as for chmod.")
    ] = "0660"
    socket_owner: Annotated[
        str, about('Whose a Unix socket is that is listened on: "user:group", "user" or ":group"; empty for ours.')
    ] = ""
    handoff: Annotated[str, about("Where mail goes unless a rule says otherwise: the name of a [handoff.NAME] table.")]
    protocol: Annotated[
        Literal["smtp", "lmtp"],
        about("What is spoken here. lmtp: a mail server hands over its mail, and is answered for each recipient (RFC 2033)."),
    ] = "smtp"
    rules: Annotated[
        tuple[str, ...],
        about('Which rules run here: "*" is all of them, "name" one, "!name" all but that one.'),
    ] = ("*",)
    hostname: Annotated[str, about("The name in the greeting; empty for the instance's hostname.")] = ""
    banner: Annotated[str, about("Text behind the name in the greeting; empty for the standard one.")] = ""
    tls: Annotated[ListenerTls, about("TLS.")] = ListenerTls()
    auth: Annotated[
        str, about("Who may log in: the name of a [users.NAME] table. Empty: nobody, unless rules with on_auth let somebody in.")
    ] = ""
    auth_mechanisms: Annotated[
        tuple[Literal["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"], ...],
        about(
            "How they may, as far as the accounts and the rules can check it. SCRAM-SHA-256-PLUS is bound to the certificate "
            "(tls-server-end-point), which few mail clients know."
        ),
    ] = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL")
    auth_required: Annotated[
        bool,
        about("Whether mail is taken only from those who have logged in: all others are told 530 5.7.0 at MAIL, "
              "those in [relaying] networks as well."),
    ] = False
    auth_without_tls: Annotated[bool, about("Whether passwords may cross the network in the clear.")] = False
    senders: Annotated[
        Literal["any", "login"],
        about("login: who has logged in sends from the addresses of the account only; then 553. any: from every address."),
    ] = "any"
    xclient_from: Annotated[
        Networks,
        about("Networks that may send XCLIENT: servers in front of this one that say who the real client is."),
    ] = Networks()
    xforward_from: Annotated[
        Networks,
        about("Networks that may send XFORWARD: as above, but for the log and for rules only, never for permission."),
    ] = Networks()
    xclient_login: Annotated[
        bool,
        about("Whether XCLIENT may also say as whom the client has logged in. That login may relay."),
    ] = False
    proxy_from: Annotated[
        Networks,
        about(
            "Networks of balancers that begin each connection with a PROXY header (version 1 or 2), which says who the real "
            "client is. From these a header is required, from all others it is refused."
        ),
    ] = Networks()
    proxy_mode: Annotated[
        Literal["require", "allow"],
        about(
            "allow: clients in those networks may also come without a header. They are greeted only when the time for one is "
            "over ([limits] timeouts.proxy)."
        ),
    ] = "require"
    proxy_tls: Annotated[
        bool,
        about(
            "Whether a balancer is believed that the client's connection was encrypted as far as there. "
            "It then counts as TLS, also where TLS is required."
        ),
    ] = False
    submission: Annotated[
        bool,
        about(
            "Mail programs send here, not servers (RFC 6409): who is neither logged in nor trusted is told to log in (530), "
            "a message without Date or Message-ID gets them, and domains must be whole (554)."
        ),
    ] = False
    bare_newline: Annotated[
        Literal["reject", "normalize"],
        about(
            "A message with a CR or LF that stands alone is refused, or mended to CR LF. "
            "It is never passed on as it is: two servers would disagree where the message ends."
        ),
    ] = "reject"
    refused_body: Annotated[
        Literal["read", "close"],
        about(
            "A message that is refused before all of it has come, by a rule at on_header or by a limit: the rest is read and "
            "dropped, up to 64 MB, and the session goes on; or the connection is closed behind the refusal."
        ),
    ] = "read"


QUARANTINE: Final = "quarantine"
"""The folder in the data folder."""


class HandoffTimeouts(Struct, frozen=True, kw_only=True):
    """How long an upstream server may take at each step (RFC 5321 4.5.3.2)."""

    connect: Annotated[Duration, about("To accept the connection, and for the TLS handshake.")] = Duration(30)
    greeting: Annotated[Duration, about("From the connection to its greeting, and to answer EHLO.")] = Duration(300)
    mail: Annotated[Duration, about("To answer MAIL and each RCPT.")] = Duration(300)
    data: Annotated[Duration, about("To answer DATA.")] = Duration(120)
    block: Annotated[Duration, about("To take each block of the message.")] = Duration(180)
    final: Annotated[
        Duration,
        about(
            "To answer the end of the message, and for all that is asked of it once our client has sent everything. "
            "Below the ten minutes that our client waits: it hears the answer."
        ),
    ] = Duration(540)


class Handoff(Struct, frozen=True, kw_only=True):
    """Where mail goes. One table for each way out; listeners and rules choose one by its name."""

    kind: Annotated[
        Literal["proxy", "relay", "queue", "quarantine", "discard"],
        about(
            "proxy: the upstream answers each command while the client waits. "
            "relay: the message is handed on when it is complete. queue: it is kept here and delivered afterwards. "
            "quarantine: it is kept in a folder for you to look at. "
            "discard: it is accepted and thrown away."
        ),
    ]
    to: Annotated[
        tuple[Target, ...],
        about('Upstream servers: "host:port", "smtp://host:port", "lmtp://host:port" or "lmtp+unix:/path".'),
    ] = ()
    identity: Annotated[
        Literal["xclient", "xforward", "proxy", "none"],
        about(
            "How the upstream learns who the client is: by XCLIENT, by XFORWARD, or by a PROXY header before all else. "
            "If the upstream then refuses that, mail is deferred: "
            "a stranger's mail is never relayed as our own."
        ),
    ] = "none"
    proxy_version: Annotated[
        Literal["v1", "v2"], about("Of the PROXY header. v2 also tells how the client's connection was encrypted.")
    ] = "v2"
    tls: Annotated[
        Literal["none", "may", "must", "verify"],
        about(
            "may: encrypted when the upstream offers STARTTLS, whatever its certificate; not on the loopback. "
            "must: encrypted or not at all. verify: its certificate must be good for its name, too."
        ),
    ] = "may"
    tls_ca: Annotated[Path | None, vouching("the upstream's certificate")] = None
    tls_name: Annotated[str, about("The name that the certificate must have; empty for the upstream's own.")] = ""
    tls_fingerprints: Annotated[
        tuple[str, ...],
        about("SHA-256 of certificates: with must or verify one of them is taken, whoever vouches for it, and no other."),
    ] = ()
    tls_cert: Annotated[Path | None, about("The certificate that we show if we are asked for one (PEM).")] = None
    tls_key: Annotated[Path | None, about("Its key (PEM).")] = None
    login: Annotated[
        str, about("The name that we log in with at the upstream: over TLS, or on this machine; without a login nothing is sent.")
    ] = ""
    password_file: Annotated[Path | None, about("The password of that name: the first line of this file.")] = None
    balance: Annotated[
        Literal["first", "even"],
        about("first: the first server that answers. even: all in turn."),
    ] = "first"
    partial: Annotated[
        Literal["refuse"],
        about(
            "When a message is refused for some of the recipients that were accepted before, by their verdicts or by an LMTP "
            "upstream. refuse: it is refused for all of them, and nothing is delivered."
        ),
    ] = "refuse"
    connections: Annotated[Count, about("Connections at one time to one upstream server.")] = 0
    folder: Annotated[str, about("Where a quarantine keeps mail; a relative path starts at the data folder.")] = QUARANTINE
    helo: Annotated[str, about("The name given in EHLO; empty for the instance's hostname.")] = ""
    timeouts: Annotated[HandoffTimeouts, about("How long the upstream may take.")] = HandoffTimeouts()


class Relaying(Struct, frozen=True, kw_only=True):
    """For whom mail is taken. What neither list holds is refused, unless a rule grants it: never an open relay."""

    domains: Annotated[Domains, about("Recipients in these domains are accepted from anybody.")] = Domains()
    networks: Annotated[Networks, about("Clients in these networks may send to any recipient.")] = Networks()


class Breaker(Struct, frozen=True, kw_only=True):
    """What becomes of a rule that keeps failing. Saving the rule gives it another chance at once."""

    failures: Annotated[Count, about("So many failures within the window are too many.")] = 20
    window: Annotated[Duration, about("The time in which failures are counted.")] = Duration(60)
    action: Annotated[
        Literal["remove", "rollback", "off"],
        about(
            "remove: the rule is not called, what it declares for a failure applies at once. "
            "rollback: the version before it comes back; where there is none, remove. off: it goes on failing."
        ),
    ] = "remove"
    cooldown: Annotated[Duration, about("After this time the rule is tried again.")] = Duration(600)


class History(Struct, frozen=True, kw_only=True):
    """Earlier versions of rules, for `smtpproxy rules --history` and `smtpproxy rollback`. What is live is kept always."""

    versions: Annotated[int, Meta(ge=1, description="Of each rule so many, the one that is live counted.")] = 20
    keep: Annotated[Duration, about("How long; 0 is without end.")] = Duration(90 * 86400)


class Scripts(Struct, frozen=True, kw_only=True):
    """Your rules: Python and Lua files, live on save."""

    folder: Annotated[Path, about("The folder that holds them.")] = Path("scripts")
    pin: Annotated[
        Literal["hook", "transaction", "session"],
        about("When a saved rule takes effect for connected clients: at their next hook, message or connection."),
    ] = "transaction"
    breaker: Annotated[Breaker, about("What becomes of a rule that keeps failing.")] = Breaker()
    history: Annotated[History, about("Earlier versions of rules.")] = History()
    http_allow: Annotated[
        Networks,
        about("Private networks whose web servers rules may ask; public ones may be asked always."),
    ] = Networks()


class Store(Struct, frozen=True, kw_only=True):
    """Where rules keep what outlives a session: counters, greylists, quotas."""

    kind: Annotated[
        Literal["sqlite", "memory"],
        about("sqlite: a file in the data folder, shared by all processes. memory: gone with the process."),
    ] = "sqlite"


class ScanTimeouts(Struct, frozen=True, kw_only=True):
    """How long a scanner may take. Whatever stands here, the rule that asks has no more time than its `wall`."""

    connect: Annotated[Duration, about("To accept the connection.")] = Duration(2)
    block: Annotated[Duration, about("To take each block of the message.")] = Duration(10)
    answer: Annotated[Duration, about("To answer once it has everything.")] = Duration(60)


class ClamAV(Struct, frozen=True, kw_only=True):
    """Where rules have mail scanned by ClamAV (`clamav.scan(mail)`): clamd servers, asked in this order."""

    to: Annotated[
        tuple[ScannerTarget, ...],
        about('Servers: "clamav+unix:/path" or "host:port". The next one is asked when one fails.'),
    ] = (ScannerTarget("", 0, "/run/clamav/clamd.ctl"),)
    size: Annotated[Size, about("Larger messages are not sent there; 0 for no limit but clamd's own StreamMaxLength.")] = Size(0)
    too_large: Annotated[
        Literal["error", "skip"],
        about(
            "What a rule learns of a message that is too large to be scanned. error: its scan has failed, and what it "
            "declares for a failure applies. skip: a result that is neither clean nor infected."
        ),
    ] = "error"
    timeouts: Annotated[ScanTimeouts, about("How long a scanner may take.")] = ScanTimeouts()


class Scanners(Struct, frozen=True, kw_only=True):
    """Scanners that rules may ask."""

    clamav: Annotated[ClamAV, about("ClamAV.")] = ClamAV()


class RuleKeys(Struct, frozen=True, kw_only=True):
    """Settings of a rule, live on save. Besides these a rule declares settings of its own."""

    enabled: Annotated[
        bool, about("Whether the rule runs. Your own do unless told otherwise, those that come with smtpproxy do not.")
    ] = True
    order: Annotated[
        int | None, about("Its place among the rules, the lowest first; else the number in the file's name.")
    ] = None
    listeners: Annotated[tuple[str, ...], about("Listeners where the rule runs; empty for all.")] = ()
    skip: Annotated[
        tuple[Literal["authenticated", "trusted"], ...],
        about("Whom the rule spares: clients that have logged in, clients in [relaying] networks."),
    ] = ()
    wall: Annotated[Duration, about("Time that one call of a hook may take.")] = Duration(5)
    cpu: Annotated[Duration, about("Processor time that one call of a hook may take.")] = Duration(0.3)


class Trace(Struct, frozen=True, kw_only=True):
    """Traces for `smtpproxy explain`: of mail that was refused, deferred or failed, of mail that a rule marks, of samples."""

    sample: Annotated[
        float, Meta(ge=0, le=1, description="The part of all other mail whose trace is kept, too: 0.01 is one in a hundred.")
    ] = 0.01
    keep: Annotated[Duration, about("How long traces are kept.")] = Duration(7 * 86400)
    size: Annotated[Size, about("Together they take no more than this; the oldest go first.")] = Size(200 << 20)


class Config(Struct, frozen=True, kw_only=True):
    """The instance."""

    hostname: Annotated[Hostname, about("The name this server goes by: in greetings, EHLO and Received.")] = field(
        default_factory=Hostname.own
    )
    workers: Annotated[int, Meta(ge=1, description="Processes that serve.")] = 1
    user: Annotated[str, about("Who serves, once the sockets are bound; empty for whoever has started the server.")] = ""
    data: Annotated[Path, about("Folder for what must outlive the process; made if absent.")] = Path("data")
    listener: Annotated[dict[str, Listener], about("Where mail comes in.")] = {}
    handoff: Annotated[dict[str, Handoff], about("Where mail goes.")] = {}
    queue: Annotated[Queue, about("The queue.")] = Queue()
    route: Annotated[dict[str, Route], about("Where mail in the queue goes, by the recipient's domain.")] = {}
    relaying: Annotated[Relaying, about("For whom mail is taken.")] = Relaying()
    users: Annotated[dict[str, Users], about("Who may log in.")] = {}
    scripts: Annotated[Scripts, about("Your rules.")] = Scripts()
    rule: Annotated[dict[str, dict[str, Any]], about("Settings of rules.")] = {}
    store: Annotated[Store, about("What rules keep.")] = Store()
    scanner: Annotated[Scanners, about("Scanners that rules may ask.")] = Scanners()
    limits: Annotated[Limits, about("What a client may use up.")] = Limits()
    log: Annotated[Log, about("The log.")] = Log()
    trace: Annotated[Trace, about("Traces that are kept.")] = Trace()
    folder: Annotated[Path, INTERNAL] = Path()
    origins: Annotated[dict[str, str], INTERNAL] = {}


LATER_KEYS: Final[dict[type[Struct], frozenset[str]]] = {
    Config: frozenset({"admin", "dns"}),
}
"""Settings that are known but not there yet: the error says so instead of guessing at a slip of the pen."""

LATER_VALUES: Final[dict[tuple[type[Struct], str], frozenset[str]]] = {
    (Handoff, "partial"): frozenset({"notice"}),
}
