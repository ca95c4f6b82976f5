"""`ostiary push`: wake devices now."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit
from ostiary.cli.output import OUTPUT, Form, print_list

_COLUMNS: Final = {"id": "ENROLLMENT", "apns_id": "APNS ID", "error": "ERROR", "hint": "HINT"}


def push(
    enrollments: Annotated[list[str], typer.Argument(help="Enrollment ids.")],
    data: DataOption = DEFAULT_DATA,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Push devices now, so that they come and ask for commands.

    Exit code 0: APNs took all of them; 3: some; 75: none.

    Example: ostiary push 4C0E7700-0000-4000-8000-000000000001
    """
    results = ask(data, "POST", "/pushes", content={"ids": enrollments})
    print_list(results, _COLUMNS, output)
    raise typer.Exit(exit_code_of(results))


def exit_code_of(results: list[dict[str, str | None]]) -> int:
    """0 when all went well, 3 when some did, 75 when none did."""
    failed = sum(1 for result in results if result["error"])
    if not failed:
        return Exit.FINE
    return Exit.PARTLY_DONE if failed < len(results) else Exit.UNAVAILABLE
