"""The engine without a disk: the same decisions on dictionaries, for tests.

Tests call; it passes the same conformance suite as the engines that keep things.
"""
