"""The embedded engine: one file, one writer on the event loop, many requests to a commit.

Only storage/opening.py and tests call; everybody else sees ports/storage.py.
"""
