"""What this machine is, in figures that travel: HTTP with nothing behind it, and one RSA verification."""

import gc
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench import house, messages, scenarios
from bench.contestants import Contestant
from bench.figures import Figures
from bench.fleet import Fleet
from bench.wire import connect

BARE = "bare HTTP"
_VERIFICATIONS = 2000


async def measure_bare_http(count_by_connections: dict[int, int], fleet: Fleet) -> list[Figures]:
    """HTTP alone, fed with the same bytes as an Idle."""
    signed = fleet.sign([messages.idle(device) for device in fleet.make_devices(16)])
    figures = []
    with house.serving_bare() as serving:
        bare = Contestant(name=BARE, port=serving.port, authorization={}, server=serving.process)
        for connections, count in count_by_connections.items():
            turns = [signed[turn % len(signed)] for turn in range(count)]
            load = await connect(bare.port, scenarios.deal(turns, connections, devices=len(turns)))
            gc.collect()
            watch = bare.start_watch()
            figures.append(watch.stop(BARE, "bare", connections, await load.run()))
    return figures


def measure_verification_ms() -> float:
    """What one RSA-2048 verification costs here."""
    key = rsa.generate_private_key(65537, 2048)
    public, body = key.public_key(), b"x" * 300
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    began = time.thread_time()
    for _ in range(_VERIFICATIONS):
        public.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
    return (time.thread_time() - began) * 1000 / _VERIFICATIONS
