"""Name spoofing: refuse strangers who write under the name of one of us, "Jane Doe <jd4711@mail.example.net>".

The display names of From and Reply-To are compared, whatever case and spaces. Who writes from one of our domains is not
asked (no-spoofing looks after these), nor who has logged in, nor the addresses in `also`: Jane's own at home.

    [rule.name-spoofing]
    names = ["Jane Doe", "John Roe"]
    also = ["jane@doe.example"]
"""

from smtpproxy.script import deny, settings


class Settings:
    names: set[str] = set()
    domains: set[str] = {"example.com"}
    also: set[str] = set()


def plain(name):
    return " ".join(name.casefold().split())


def on_header(mail):
    if mail.client.login or mail.client.trusted:
        return None
    ours = {plain(name) for name in settings.names}
    for box in mail.header.addresses("From") + mail.header.addresses("Reply-To"):
        if plain(box.phrase) in ours and box.domain not in settings.domains and str(box) not in settings.also:
            return deny(f"{box} is not the address of {box.phrase}", code="550 5.7.1")
