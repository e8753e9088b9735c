"""`python -m smtpproxy` is the command `smtpproxy`."""

from smtpproxy.cli.main import entry

entry()
