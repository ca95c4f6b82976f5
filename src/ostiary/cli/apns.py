"""`ostiary apns`: the push certificate, from the request to its renewal."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import OUTPUT, Form, print_list, say

app = typer.Typer(
    help="Push certificates, without which nobody can be woken.", no_args_is_help=True
)

_COLUMNS: Final = {
    "topic": "TOPIC",
    "not_after": "ENDS",
    "enrollments": "DEVICES",
    "imported": "IMPORTED",
    "paused": "PAUSED",
    "paused_reason": "WHY",
}


@app.command("csr")
def request(
    data: DataOption = DEFAULT_DATA,
    name: Annotated[str, typer.Option(help="A name for it, for your own eyes.")] = "Ostiary MDM",
    out: Annotated[
        Path | None, typer.Option(help="Write it there instead of printing it.", dir_okay=False)
    ] = None,
) -> None:
    """Make a key, which stays here sealed, and print a certificate request for it.

    Have a vendor sign the request, upload the result at Apple's push portal with an Apple account that
    belongs to your organization rather than to a person, and bring the certificate in with `apns import`.

    Example: ostiary apns csr --out push.csr
    """
    if out is not None:
        _demand_writable(out)  # before a key is made that nobody would hear of
    pem = ask(data, "POST", "/push-certificates/request", content={"name": name})["pem"]
    if out is None:
        print(pem, end="")
        return
    try:
        out.write_text(pem)
    except OSError as error:
        raise _unwritable(out, error.strerror or "") from None
    say(f"The request is in {out}.")
    say(
        "Next: have a vendor sign it, upload the result at https://identity.apple.com/pushcert,"
        " then: ostiary apns import CERTIFICATE"
    )


@app.command("import")
def import_certificate(
    certificate: Annotated[
        Path,
        typer.Argument(
            help="The certificate from the portal, in PEM.", exists=True, dir_okay=False
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Its key, where `apns csr` did not make it.", exists=True, dir_okay=False
        ),
    ] = None,
    new_topic: Annotated[
        bool,
        typer.Option(
            "--new-topic", help="Yes, it is for another topic than the enrolled devices use."
        ),
    ] = False,
) -> None:
    """Take a push certificate into use, for the first time or to renew one.

    A certificate for another topic is refused while devices are enrolled: it would not reach them.

    Example: ostiary apns import MDM_Certificate.pem
    """
    content = {"pem": _text(certificate), "confirm_new_topic": new_topic}
    if key is not None:
        content["key_pem"] = _text(key)
    imported = ask(data, "POST", "/push-certificates", content=content)
    verb = "renewed" if imported["replaced"] else "in use"
    say(f"{imported['topic']}: {verb}, until {imported['not_after']}.")


@app.command("show")
def show(data: DataOption = DEFAULT_DATA, output: Annotated[Form, OUTPUT] = Form.TABLE) -> None:
    """Show every push topic, its certificate's end, and how many devices hang on it.

    Example: ostiary apns show -o json
    """
    print_list(ask(data, "GET", "/push-certificates")["items"], _COLUMNS, output)


@app.command("resume")
def resume(
    topic: Annotated[str, typer.Argument(help="The topic, as `apns show` shows it.")],
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Push a paused topic again with the certificate that it has.

    Example: ostiary apns resume com.apple.mgmt.External.0c5b0a3e-…
    """
    ask(data, "POST", "/push-certificates/resume", content={"topic": topic})
    say(f"{topic}: pushed again.")


def _demand_writable(file: Path) -> None:
    if not file.parent.is_dir():
        raise _unwritable(file, "there is no such directory")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise _unwritable(file, "permission denied")


def _unwritable(file: Path, why: str) -> Failed:
    return Failed(
        f"{file} cannot be written: {why}",
        "Name a file in a directory that you may write.",
        Exit.UNAVAILABLE,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise Failed(
            f"{path} is no PEM file",
            "The portal gives PEM; convert others with openssl.",
            Exit.MALFORMED,
        ) from None
