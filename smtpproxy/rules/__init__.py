"""The rules that come with smtpproxy: one file each, written against the same API as your own, off unless enabled."""
