"""Put a line under what our own people send, in the text and in the HTML.

Signed and encrypted mail goes as it is: what was signed must not change, and what is encrypted cannot be read.
"""

from smtpproxy.script import settings


class Settings:
    domains: set[str] = {"example.com"}
    text: str = "\n-- \nExample Ltd, 1 Example Street, London"
    html: str = "<hr><p>Example Ltd, 1 Example Street, London</p>"


def on_message(mail):
    if mail.sender.domain not in settings.domains or any(part.signed for part in mail.parts):
        return
    mail.append_text(settings.text, html=settings.html)
