"""Apple's device management protocol: check-in messages, command reports, commands, enrollment profiles.

Pure: domain, services and web may call. Facts: docs/protocol/check-in-and-commands.md.
"""
