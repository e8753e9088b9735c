"""The process: it binds, builds the doors from the configuration, serves, reloads and drains.

It decides nothing about mail.
"""
