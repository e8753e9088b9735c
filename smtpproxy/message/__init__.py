"""A message: the bytes as they came, the header split into fields, the edits made to it, and what they give together.

Never touches the original, never opens a connection, never asks for the time.
"""
