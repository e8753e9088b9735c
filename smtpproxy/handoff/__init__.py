"""Where a message goes once the session has it: each way out wears the contract of base.py.

A hand-off never sees the client's socket, and never decides policy.
"""
