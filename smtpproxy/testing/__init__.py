"""What tests of the server and of rules are made of: a client, an upstream, a zone, a clock, a rule's run.

All of it speaks on the loopback, on ports the system picks, and waits for events, never for time to pass.
"""
