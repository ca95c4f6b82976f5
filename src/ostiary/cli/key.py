"""`ostiary key`: the keys under which everything secret is sealed."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ostiary.cli.background import run_async
from ostiary.cli.desk import DEFAULT_DATA, DataOption, Desk, open_desk
from ostiary.cli.failure import Exit, Failed, failure_of, report
from ostiary.cli.output import OUTPUT, Form, print_list, say
from ostiary.errors import Unavailable
from ostiary.keys.file import KeyFileDamaged, KeyFileExposed, KeyFileMissing
from ostiary.keys.sealer import DIGEST_EPOCH
from ostiary.keys.wrapping import EpochKeyDamaged, RootKeyDoesNotMatch

app = typer.Typer(
    help="The keys under which everything secret is sealed: replace them, and look whether they fit.",
    no_args_is_help=True,
)

_COLUMNS: Final = {
    "tenant": "TENANT",
    "epoch": "EPOCH",
    "made_at": "MADE",
    "use": "USE",
    "opens": "OPENS",
    "values": "VALUES",
}
_DIGESTS: Final = "digests; never rotated"
_SEALS: Final = "seals"
_OPENS: Final = "opens older values"
_RESTS: Final = "opens; seals soon"
_UNKNOWN: Final = "not there"
_CLOSED: Final[tuple[type[Unavailable], ...]] = (
    RootKeyDoesNotMatch,
    EpochKeyDamaged,
    KeyFileMissing,
    KeyFileExposed,
    KeyFileDamaged,
)


@app.command("rotate")
def rotate(
    tenant: Annotated[
        str | None, typer.Option(help="Whose key; the default tenant's otherwise.")
    ] = None,
    root: Annotated[
        bool,
        typer.Option(
            "--root", help="Replace the root key, under which the keys in the database lie."
        ),
    ] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Seal everything under a new key: new values soon, older ones little by little while a server runs.

    Nothing is interrupted, and no key is ever removed: older values, and backups, open as before. With --root the
    root key file is replaced instead; each node must be given the new one before its next start.

    Example: ostiary key rotate
    """
    if root and tenant is not None:
        raise Failed(
            "--root and --tenant do not go together",
            "There is one root key for all tenants.",
            Exit.USAGE,
        )
    run_async(_rotate_root(data) if root else _rotate(data, tenant))


@app.command("check")
def check(data: DataOption = DEFAULT_DATA, output: Annotated[Form, OUTPUT] = Form.TABLE) -> None:
    """List every key, whether the root key on this node opens it, and how many values are sealed under it.

    Exit code 0: all is well; 4: older values are still being sealed anew; 5: a key or a value does not open.

    Example: ostiary key check -o json
    """
    try:
        found, values = run_async(_look(data))
    except _CLOSED as error:
        report(failure_of(error))
        raise typer.Exit(Exit.HEALTH_CRITICAL) from None
    rows = [*_key_rows(found, values), *_unknown_rows(found, values)]
    print_list(rows, _COLUMNS, output)
    raise typer.Exit(_verdict(found, values))


async def _rotate(data: Path, tenant: str | None) -> None:
    async with open_desk(data) as desk:
        done = await desk.ask(
            "POST", "/keys/rotate", content={} if tenant is None else {"tenant": tenant}
        )
    if seconds := done["rest_seconds"]:
        say(
            f"Tenant {done['tenant']} has epoch {done['epoch']}; within {2 * seconds} seconds every node seals under it."
        )
    else:
        say(f"Tenant {done['tenant']} has epoch {done['epoch']}, and seals under it from now on.")
    say(
        "Older values open as before; a running server seals them anew, a little at a time. `ostiary key check` counts"
        " what is left."
    )


async def _rotate_root(data: Path) -> None:
    async with open_desk(data) as desk:
        done = await desk.ask("POST", "/keys/rotate-root", content={})
    say(f"There is a new root key. The old one is kept as keys/{done['kept']}: backups need it.")
    say(
        "Now put keys/root.key into your copy of the keys, and on every other node before it starts again or a key is"
        " rotated."
    )


async def _look(data: Path) -> tuple[dict[str, Any], Counter[tuple[str, int]]]:
    async with open_desk(data) as desk:
        return await desk.ask("GET", "/keys"), await _count(desk)


async def _count(desk: Desk) -> Counter[tuple[str, int]]:
    """Asked for in parts, so that devices have the database in between."""
    values: Counter[tuple[str, int]] = Counter()
    params: dict[str, str | int | bool | None] = {}
    while True:
        part = await desk.ask("GET", "/keys/values", params=params)
        for one in part["numbers"]:
            values[one["tenant"], one["epoch"]] += one["values"]
        if part["where"] is None:
            return values
        params = {"where": part["where"], "place": part["place"]}


def _key_rows(found: dict[str, Any], values: Counter[tuple[str, int]]) -> list[dict[str, Any]]:
    return [
        {
            "tenant": key["tenant"],
            "epoch": key["epoch"],
            "made_at": key["made_at"],
            "use": _use(found, key),
            "opens": key["opens"],
            "values": None if key["epoch"] == DIGEST_EPOCH else values[key["tenant"], key["epoch"]],
        }
        for key in found["items"]
    ]


def _unknown_rows(found: dict[str, Any], values: Counter[tuple[str, int]]) -> list[dict[str, Any]]:
    """Values under keys that nobody has; the place of the digest key is none of them."""
    known = _sealing(found)
    return [
        {"tenant": tenant, "epoch": epoch, "use": _UNKNOWN, "opens": False, "values": number}
        for (tenant, epoch), number in sorted(values.items())
        if (tenant, epoch) not in known
    ]


def _use(found: dict[str, Any], key: dict[str, Any]) -> str:
    if key["epoch"] == DIGEST_EPOCH:
        return _DIGESTS
    current = found["current"].get(key["tenant"], 0)
    if key["epoch"] > current:
        return _RESTS
    return _SEALS if key["epoch"] == current else _OPENS


def _sealing(found: dict[str, Any]) -> set[tuple[str, int]]:
    return {(key["tenant"], key["epoch"]) for key in found["items"] if key["epoch"] != DIGEST_EPOCH}


def _who_reseals(found: dict[str, Any]) -> str:
    if found["is_resealed"]:
        return (
            "they were stored after the others were done. A worker looks again after a day; another `ostiary key"
            " rotate` takes them along at once."
        )
    if found["is_begun"]:
        return "a worker seals them anew, as long as a server runs."
    return "no worker has begun yet. A running server does that."


def _verdict(found: dict[str, Any], values: Counter[tuple[str, int]]) -> Exit:
    """Say what the table means; the exit code."""
    verdict = Exit.FINE
    newest = found["newest"]
    left = sum(n for (tenant, epoch), n in values.items() if epoch < newest.get(tenant, 0))
    if left:
        say(f"{left} values are under older keys: {_who_reseals(found)}")
        verdict = Exit.HEALTH_WARNING
    elif not found["is_resealed"]:
        say(
            "Every value is under the newest key; a worker looks once more, for what came meanwhile."
        )
        verdict = Exit.HEALTH_WARNING
    if not all(key["fits"] for key in found["items"]):
        say(
            "The root key on this node is not the one of the database. Copy keys/root.key from the node on which it was"
            " rotated, or from a backup; without it this node does not start again."
        )
        verdict = Exit.HEALTH_CRITICAL
    elif not all(key["opens"] for key in found["items"]):
        say("A key in the database was altered: restore the database from a backup.")
        verdict = Exit.HEALTH_CRITICAL
    strange = sum(n for place, n in values.items() if place not in _sealing(found))
    if strange or found["broken"]:
        say(
            f"{max(strange, found['broken'])} values do not open; the log of the worker names them"
            " (value_does_not_open). Restore them from a backup."
        )
        verdict = Exit.HEALTH_CRITICAL
    if verdict is Exit.FINE:
        say("The root key fits, every key opens, and every value is under the newest.")
    return verdict
