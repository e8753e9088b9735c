"""Counters, values, sets and leases with expiry, shared by all rules and outliving a session.

Engines answer the same questions alike; which one is there, only the configuration knows. None knows of mail.
"""
