"""A fleet of 100,000 simulated devices against one real server: enrolled, woken after an outage, busy for eight hours.

Run by people (`python -m bench.scale`, `python -m bench.soak`); nothing of the product calls it.
"""
