"""What keeps the house in order: set-up, checks, the list of covered cases.

For the Makefile, .ci/run and tests/conftest.py; nothing under src/ may call in here.
"""
