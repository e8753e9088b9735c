"""SMTP as text: lines, commands, replies, addresses, order, extensions, dots, XCLIENT.

Pure functions and values over bytes that server, client, proxy and tests share. Never does I/O, never asks the
clock, never decides policy.
"""
