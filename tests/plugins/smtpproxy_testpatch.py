"""Loaded by pytest before anything else: gevent patches the standard library while nobody holds a piece of it."""

from gevent import monkey

monkey.patch_all()
