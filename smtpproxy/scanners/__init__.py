"""Scanners: clients of servers that look at a message and say what they found.

Each reads the message in chunks, goes on to the next server when one fails, and raises when none could look.
"""
