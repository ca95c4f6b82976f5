"""`ostiary simulate`: devices and an Apple that never were. The only place that starts the simulator."""

from typing import Final

import typer

app = typer.Typer(
    help="Simulated devices and a simulated Apple, for a first look, a dry run or a load.\n\n"
    "Both end with Ctrl-C; `--help` after the word lists what each takes.",
    no_args_is_help=True,
)

_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True}


@app.command("apple", context_settings=_PASS_ON, add_help_option=False)
def apple(context: typer.Context) -> None:
    """A push service on loopback that speaks APNs' protocol, with its own CA and push certificates.

    One line of JSON says where it is; how to use it follows on standard error.

    Example: ostiary simulate apple --directory ./apple --port 2197
    """
    raise typer.Exit(_simulator(["apple", *context.args]))


@app.command("devices", context_settings=_PASS_ON, add_help_option=False)
def devices(context: typer.Context) -> None:
    """Devices that enroll at any MDM server, stay, obey and hand over their tokens.

    One line of JSON says how many enrolled, their ids, and why others did not; if none did, it ends there.

    Example: ostiary simulate devices --enroll URL --count 3 --personality mac --ca ca.pem
    """
    raise typer.Exit(_simulator(["devices", *context.args]))


def _simulator(words: list[str]) -> int:
    from ostiary_sim.__main__ import main  # noqa: PLC0415 - other commands need not wait for it

    return main(words)
