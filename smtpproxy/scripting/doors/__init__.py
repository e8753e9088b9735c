"""What a rule reaches of the world, by the same names in both languages: dns, http, cache, store, log, json.

A door blocks the greenlet that asks and nobody else. Where it leads, the running call says; none holds anything itself.
"""
