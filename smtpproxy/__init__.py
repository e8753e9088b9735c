"""The scriptable front door for mail: SMTP in, rules at every stage, handed on to any mail server."""

__version__ = "0.1.0"
