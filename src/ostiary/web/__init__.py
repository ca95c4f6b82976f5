"""The ways in over HTTP: bytes to calls and back, nothing decided.

app builds the routes; nobody else calls in here. Asks services, never the stores.
"""
