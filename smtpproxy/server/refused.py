"""Why the server does not start, or does not take a new configuration."""

from __future__ import annotations


class Refused(Exception):
    """It cannot go on with this configuration; str() says why."""
