"""Devices and an Apple that never were, to rehearse device management against any MDM server.

A package of its own: it imports nothing of `ostiary`, so a misreading of the protocol cannot hide in both.
"""
