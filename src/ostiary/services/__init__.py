"""Decisions: one file each. They bring values, keys and storage together, and know neither HTTP nor SQL.

Ways in (web, worker, cli through app) may call; services use ports, domain, protocol and formats.
"""
