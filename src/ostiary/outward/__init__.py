"""The drivers that really send: to APNs today, to Apple's other services later. Each speaks to its configured endpoint alone.

Only app wires them; services reach them through the ports that they implement.
"""
