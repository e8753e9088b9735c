"""Mail that is ours until somebody else has taken it: kept on disk, sent when it is due, or given back to its sender.

The ledger keeps it (`ledger.py` is the contract, `sqlite.py` an engine), the schedule says when, the sender sends.
"""
