"""`ostiary identity`: the certificates that devices speak with."""

from typing import Annotated

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.output import say

app = typer.Typer(help="The certificates that devices speak with.", no_args_is_help=True)


@app.command("renew")
def renew(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id of a device.")],
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Renew a device's identity: send its enrollment profile again, with a credential for it alone.

    The certificate in use stays valid until the device uses the new one; tokens and waiting commands stay.

    Example: ostiary identity renew 4C0E7700-0000-4000-8000-000000000001
    """
    queued = ask(data, "POST", "/identities/renew", content={"id": enrollment})
    say(f"{enrollment}: the renewal is queued as InstallProfile {queued['uuid']}.")
