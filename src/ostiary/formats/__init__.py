"""Bytes to values and back, bounded and without side effects.

Pure: protocol, domain, services and web may call; nothing here waits, dates, stores or logs.
"""
