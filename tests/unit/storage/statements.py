"""Every SQL statement that an engine names, found by looking, so that nobody has to remember to list a new one."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ostiary import storage

ENGINES = ("sqlite", "postgres")
_SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s")


def rooms(engine: str) -> tuple[ModuleType, ...]:
    """The engine's modules that hold statements."""
    package = importlib.import_module(f"{storage.__name__}.{engine}")
    found = (
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    )
    return tuple(room for room in found if dict(named(room)))


def named(room: ModuleType) -> Iterator[tuple[str, str]]:
    """The constants of a module that are statements, by name."""
    for name, text in vars(room).items():
        if name.isupper() and isinstance(text, str) and _SQL.match(text):
            yield name, text


def statements(engine: str) -> dict[str, str]:
    """Every statement of an engine, as `room.NAME`."""
    return {
        f"{room.__name__.rpartition('.')[2]}.{name}": text
        for room in rooms(engine)
        for name, text in named(room)
    }


def hidden(engine: str) -> dict[str, list[int]]:
    """The lines of each module where a statement stands that has no name of its own: within a function."""
    found = {}
    for file in sorted((Path(storage.__file__).parent / engine).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = (
            one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        lines = {
            node.lineno
            for function in functions
            for node in _without_docstring(function)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _SQL.match(node.value)
        }
        if lines:
            found[file.stem] = sorted(lines)
    return found


def _without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    first = 1 if ast.get_docstring(function) is not None else 0
    for statement in function.body[first:]:
        yield from ast.walk(statement)
