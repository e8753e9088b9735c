"""What rules and hand-offs see: the client, the mail, its recipients, and what was noted about them.

Never holds a socket, never blocks: what must be asked for comes through a function that was given.
"""
