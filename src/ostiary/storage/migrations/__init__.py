"""The schema of each engine, as numbered SQL files: `before` runs under the old code too, `after` needs the new.

Only the engines read these, through their own migration runner.
"""
