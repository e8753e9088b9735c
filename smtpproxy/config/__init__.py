"""The configuration: TOML files in a folder, read into typed tables, all mistakes named at once.

It never opens a socket, starts nothing and holds no code of the operator's.
"""
