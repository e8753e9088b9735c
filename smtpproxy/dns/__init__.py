"""Questions to the DNS: one interface, the real resolver, and a zone that answers from a dict.

Never decides what an answer means for mail: that is for rules and for verify.
"""
