"""Ostiary, an Apple MDM server that keeps the keys."""

__version__ = "0.1.0"
