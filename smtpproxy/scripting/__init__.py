"""Rules: the table of hooks, the folder of rule files live on save, the run of a chain, and the story of what happened.

It is given client, mail and doors; it never imports a session, a queue or a handoff, and never decides what a verdict
means at the wire.
"""
