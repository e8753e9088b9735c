"""What is probably a mistake in a rule, though it loads: found in its text and in the configuration around it.

Nothing of a rule runs here.
"""
