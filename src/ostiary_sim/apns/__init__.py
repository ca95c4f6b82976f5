"""Apple's push service that never was: HTTP/2 over TLS with client certificates, on loopback.

Called by `ostiary_sim.world`, and by tests that push to simulated devices.
"""

from ostiary_sim.apns.certificates import PushAuthority, PushCredential
from ostiary_sim.apns.control import ControlServer
from ostiary_sim.apns.courier import CourierClient, CourierServer
from ostiary_sim.apns.levers import ApnsLevers, Break
from ostiary_sim.apns.requests import PushRequest, Verdict
from ostiary_sim.apns.server import SimulatedApns

__all__ = [
    "ApnsLevers",
    "Break",
    "ControlServer",
    "CourierClient",
    "CourierServer",
    "PushAuthority",
    "PushCredential",
    "PushRequest",
    "SimulatedApns",
    "Verdict",
]
