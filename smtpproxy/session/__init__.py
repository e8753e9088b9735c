"""One client's dialogue: straight-line greenlet code over the command table, from the greeting to QUIT.

It sees facts, rules, hand-offs and a connection; it never knows where mail goes, nor how rules are loaded.
"""
