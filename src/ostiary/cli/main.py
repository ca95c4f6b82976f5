"""The command `ostiary`: its nouns and verbs, and the one place where an error becomes words and an exit code."""

import sys
from typing import Annotated, Final, NoReturn

import typer

from ostiary import __version__
from ostiary.cli import (
    api_token,
    apns,
    demo,
    device,
    doctor,
    enqueue,
    enroll,
    filevault,
    identity,
    init,
    key,
    lights_out,
    migrate,
    policy,
    push,
    queue,
    retention,
    serve,
    simulate,
    token,
)
from ostiary.cli.failure import Exit, Failed, failure_of, report
from ostiary.errors import OstiaryError
from ostiary.web.problems import places

INTERRUPTED: Final = 130
"""As a shell says of a command that Ctrl-C ended."""

app = typer.Typer(
    name="ostiary",
    help="An Apple MDM server that keeps the keys.\n\nBegin with `ostiary init`, then `ostiary serve`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("migrate")(migrate.migrate)
app.command("enqueue")(enqueue.enqueue)
app.command("push")(push.push)
app.command("lights-out")(lights_out.lights_out)
app.add_typer(device.app, name="device")
app.add_typer(identity.app, name="identity")
app.add_typer(queue.app, name="queue")
app.add_typer(token.app, name="token")
app.add_typer(filevault.app, name="filevault")
app.add_typer(enroll.app, name="enroll")
app.add_typer(apns.app, name="apns")
app.add_typer(policy.app, name="policy")
app.add_typer(retention.app, name="retention")
app.add_typer(key.app, name="key")
app.add_typer(api_token.app, name="api-token")
app.add_typer(simulate.app, name="simulate")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line; never returns, and never shows a traceback for what we know by name."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    try:
        code: int | None = app(arguments, prog_name="ostiary", standalone_mode=False)
    except (Failed, OstiaryError) as error:
        failure = error if isinstance(error, Failed) else failure_of(error)
        report(failure)
        return failure.exit_code
    except typer.TyperException as wrong:  # how the command was written
        said = str(getattr(wrong, "format_message", wrong.__str__)())
        if said.startswith("Usage:"):  # a noun without a verb: its help
            print(said)
        else:
            report(
                Failed(
                    " ".join(said.split()).rstrip("."),
                    "Add --help to see how it is written.",
                    Exit.USAGE,
                )
            )
        return Exit.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us, as `head` does, has read enough
        return Exit.FINE
    except Exception as error:  # noqa: BLE001 - the last stop before the shell, which is to see no traceback
        # The text of an exception that we did not write may quote what it stumbled over.
        report(
            Failed(
                f"a bug: {type(error).__name__} at {places(error)}", "Please report it.", Exit.BUG
            )
        )
        return Exit.BUG
    return int(code or Exit.FINE)
