"""`python -m ostiary_sim apple|devices …`: the simulator by itself, before any MDM server."""

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ostiary_sim.events import Event
from ostiary_sim.guide import how_to_use, levers_explained
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.world import run_apple, run_devices

PARTLY_DONE: Final = 3
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
"""As OpenSSL names it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one simulation until SIGINT or SIGTERM; the exit code is 0, or 3 if some devices did not enroll."""
    return asyncio.run(_run(_parser().parse_args(arguments)))


async def _run(given: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if given.what == "apple":
        await run_apple(
            given.directory,
            say=_say_and_explain,
            port=given.port,
            courier_port=given.courier_port,
            control_port=given.control_port,
            stop=stop,
        )
        return 0
    report = await run_devices(
        given.enroll,
        say=_say,
        count=given.count,
        personality=given.personality or ["iphone"],
        ca_file=given.ca,
        courier=given.apple,
        listener=_tell if given.verbose else None,
        seed=given.seed,
        stay=not given.once,
        stop=stop,
    )
    if any(_UNTRUSTED in said for said in report.failures):
        _note("hint: name the server's authority with --ca FILE; Ostiary's own is DIR/ca.pem")
    return PARTLY_DONE if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ostiary simulate", description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    apple = parts.add_parser(
        "apple",
        help="a push service on loopback",
        description="A push service on loopback that speaks APNs' protocol, until Ctrl-C. One line of JSON on "
        "standard output says where it is; how to use it follows on standard error.",
        epilog=levers_explained(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    apple.add_argument(
        "--directory", type=Path, required=True, help="for certificates and apple.json"
    )
    apple.add_argument("--port", type=int, default=0, help="of the push service; 0: a free one")
    apple.add_argument("--courier-port", type=int, default=0, help="where devices listen")
    apple.add_argument("--control-port", type=int, default=0, help="where levers are pulled")
    devices = parts.add_parser(
        "devices",
        help="devices that enroll and stay",
        description="Devices that enroll at any MDM server and stay until Ctrl-C. One line of JSON says how many "
        "enrolled, their ids, and why others did not. Exit code 3: some did not, or none.",
    )
    devices.add_argument("--enroll", required=True, metavar="URL", help="fetched for each device")
    devices.add_argument("--count", type=int, default=1)
    devices.add_argument(
        "--personality",
        action="append",
        choices=sorted(PERSONALITIES),
        help="may be given again: dealt out in turn",
    )
    devices.add_argument(
        "--ca", type=read_authorities, metavar="FILE", help="authorities to trust, PEM"
    )
    devices.add_argument(
        "--apple", type=read_address, metavar="HOST:PORT", help="the courier of a simulated Apple"
    )
    devices.add_argument("--seed", type=int, help="equal seeds make equal devices")
    devices.add_argument("--once", action="store_true", help="end after enrollment")
    devices.add_argument("--leave", dest="once", action="store_true", help=argparse.SUPPRESS)
    devices.add_argument("--verbose", action="store_true", help="tell every event")
    return parser


def read_authorities(text: str) -> Path:
    """The path of a file that TLS can trust.

    Raises:
        ArgumentTypeError: it cannot be read, or holds no certificate.
    """
    try:
        ssl.create_default_context(cafile=text)
    except OSError as error:  # as ssl.SSLError is, too
        why = (
            "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        )
        raise argparse.ArgumentTypeError(f"{text} cannot be used: {why}") from None
    return Path(text)


def read_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` as a pair.

    Raises:
        ValueError: not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError("HOST:PORT expected")
    return host.strip("[]"), int(port)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_and_explain(line: str) -> None:
    _say(line)
    _note(how_to_use(json.loads(line)))


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _tell(event: Event) -> None:
    _say(f"{event.at:%H:%M:%S} {event.serial} {event.channel} {event.what} {event.detail}")


if __name__ == "__main__":
    sys.exit(main())
