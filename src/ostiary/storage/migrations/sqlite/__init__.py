"""SQLite's schema, one file a step; a file that was released never changes.

Only storage/sqlite/schema.py reads these.
"""
