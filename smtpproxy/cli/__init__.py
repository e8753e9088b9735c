"""The command line: one file for each subcommand.

It reads arguments and prints; what a command does stands in the other rooms.
"""
