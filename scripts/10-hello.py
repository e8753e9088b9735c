"""Nobody is not here: refuse mail to one address.

Change the text or the address, save, and send again: the next message meets what you wrote. Nothing is restarted.

    smtpproxy send --to nobody@example.com
"""

from smtpproxy.script import deny


def on_rcpt(mail, rcpt):
    if str(rcpt) == "nobody@example.com":
        return deny("Nobody is not here", code="550 5.1.1")
