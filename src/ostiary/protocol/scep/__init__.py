"""SCEP as RFC 8894 and Apple's devices speak it: requests to values, values to replies, signed elsewhere.

Pure: services may call. Facts: docs/protocol/check-in-and-commands.md 6.2, 6.3.
"""
