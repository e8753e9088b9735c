"""Mail on its way out: the one SMTP and LMTP client, the connections kept open, which upstream is alive.

Knows nothing of sessions and queues; who calls decides what a failure means.
"""
