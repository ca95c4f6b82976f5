"""What to do with a simulated Apple once it runs, in the order in which people do it."""

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from ostiary_sim.apns.control import LEVERS


def how_to_use(endpoints: Mapping[str, str]) -> str:
    """Three steps with this Apple's own addresses and files, and where its levers are."""
    host, port = endpoints["apns_host"], endpoints["apns_port"]
    ca, certificate, key = (
        str(Path(endpoints[name]).absolute())
        for name in ("ca_file", "push_certificate_file", "push_key_file")
    )
    return f"""\
1. Give an Ostiary this push certificate; DIR is its directory:
     ostiary apns import {quote(certificate)} --key {quote(key)} --data DIR
2. Let it push here: before it is started, in DIR/ostiary.toml, right below the line [apns] that stands there:
     host = "{host}"
     port = {port}
     ca = {json.dumps(ca)}
   or in the environment:
     OSTIARY_APNS__HOST={host} OSTIARY_APNS__PORT={port} OSTIARY_APNS__CA={quote(ca)}
   The port is the same next time with --port {port}.
3. Let devices listen here:
     ostiary simulate devices --enroll URL --ca DIR/ca.pem --apple {endpoints["courier"]}
Levers: curl {endpoints["control"]}/ lists them. Ctrl-C ends this Apple."""


def levers_explained() -> str:
    """Every lever, a line each, as `--help` shows it."""
    asked = [f"{lever.method} {lever.path}" for lever in LEVERS]
    width = max(map(len, asked))
    lines = [
        f"  {address:<{width}}  {lever.does}" + (f" Body: {lever.body}." if lever.body else "")
        for address, lever in zip(asked, LEVERS, strict=True)
    ]
    return "\n".join(
        [
            "levers, pulled by HTTP with JSON at the address `control` of the line that is printed:",
            *lines,
            "Tokens are hex, timestamps ISO 8601, serials decimal; ? marks what may be left out.",
        ]
    )
