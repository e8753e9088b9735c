"""Who may log in: files, and what else knows names and passwords. The session asks by one contract, accounts/base.py."""
