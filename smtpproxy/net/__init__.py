"""Sockets under gevent: one lean connection class for both directions, the accept loop, deadlines.

Knows bytes and time; never SMTP grammar beyond lines, never rules.
"""
