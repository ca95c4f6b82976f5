"""Loops that run beside the requests: each takes what is due, asks a service, and stores what came of it.

Only app starts them; a loop keeps no state of its own and may be stopped at any moment.
"""
