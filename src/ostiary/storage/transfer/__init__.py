"""Everything that one database holds, carried into another one, on the same engine or the other, value for value.

Only the CLI's `ostiary migrate` calls in here; it sees `move.py`. Knows both engines; neither knows this room.
"""
