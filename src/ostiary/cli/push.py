"""`ostiary push`: wake devices now."""

from typing import Annotated, Any, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, failure_of_problem, report
from ostiary.cli.output import OUTPUT, Form, print_list

_COLUMNS: Final = {"id": "ENROLLMENT", "apns_id": "APNS ID"}


def push(
    enrollments: Annotated[list[str], typer.Argument(help="Enrollment ids or serial numbers.")],
    data: DataOption = DEFAULT_DATA,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Push devices now, so that they come and ask for commands.

    Exit code 0: APNs took all of them; 3: some; the first error's: none.

    Example: ostiary push 4C0E7700-0000-4000-8000-000000000001
    """
    results = ask(data, "POST", "/pushes", content={"ids": enrollments})
    raise typer.Exit(print_results(results, _COLUMNS, output))


def print_results(results: list[dict[str, Any]], columns: dict[str, str], form: Form) -> int:
    """Print what worked as a list and what did not as errors; 0 for all, 3 for some, an error's code for none."""
    failed = [result for result in results if result["error"]]
    worked = [result for result in results if not result["error"]]
    if form is not Form.TABLE:
        print_list(results, columns | {"error": "ERROR"}, form)
    elif worked:
        print_list(worked, columns, form)
    for result in failed:
        report(failure_of_problem({"detail": f"{result['id']}: {result['error']}", **result}))
    if not failed:
        return Exit.FINE
    return Exit.PARTLY_DONE if worked else failure_of_problem(failed[0]).exit_code
