"""The engine for several nodes: one PostgreSQL, a small pool of connections on each node, no state between requests.

Only storage/opening.py and tests call; everybody else sees ports/storage.py.
"""
