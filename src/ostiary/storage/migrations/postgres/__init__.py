"""PostgreSQL's schema, one file a step; a file that was released never changes.

Only storage/postgres/schema.py reads these.
"""
