"""APNs as MDM uses it: the request for one push, what its answer means, and what a push certificate must be.

Pure: domain, ports, services and outward may call; `outward/apns.py` does the sending.
"""
