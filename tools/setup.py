"""Make `.venv` with Ostiary in it, on a machine that has Python 3.11 and perhaps nothing else.

    python3 tools/setup.py run     what a server and the demo need
    python3 tools/setup.py dev     that, and what the tests and checks need (the default)

Uses the standard library alone, because it runs before anything is installed. Every package comes from
requirements/*.txt with its hash checked. A run that is interrupted leaves no mark of success, so the next one
goes on; a run with nothing to do takes a fraction of a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
WHEELS = Path(
    "/usr/share/python-wheels"
)  # where Debian keeps the wheels its own ensurepip would use
SYSTEM_TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
LEVELS = {
    "run": ("build.txt", "run.txt"),
    "dev": ("build.txt", "dev.txt"),  # dev.txt holds everything run.txt holds, at the same versions
}
PINNED = re.compile(r"^[A-Za-z0-9_.-]+==\S+\s*(?:;\s*(?P<marker>[^\\]*))?")

PACKAGE_SEEN = re.compile(  # a line of pip's that stands for one package
    r"(?:Collecting|Requirement already satisfied:|Processing (?:\S*/)?)\s*(?P<name>[A-Za-z0-9_.]+(?:-[A-Za-z][A-Za-z0-9_.]*)*)"
)


class SetupFailed(Exception):
    """Set-up cannot go on: what happened, what that means, what to do."""

    def __init__(self, happened: str, means: str, remedy: str) -> None:
        super().__init__(happened)
        self.lines = (f"error: {happened}", f"meaning: {means}", f"to do: {remedy}")


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


# ── the mark of a finished set-up ──────────────────────────────────────────────────────────────


def wanted_mark(root: Path, level: str) -> dict[str, str]:
    """What the mark must say for nothing to be left to do: the digest of all that decides the content of `.venv`."""
    digest = hashlib.sha256()
    for name in (*(f"requirements/{name}" for name in LEVELS[level]), "pyproject.toml"):
        digest.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    # The place belongs to it: a tree that was moved has scripts that point to where it was.
    return {"level": level, "digest": digest.hexdigest(), "root": str(root)}


def has_mark(root: Path, level: str) -> bool:
    """Say whether `.venv` was finished for this level, or for a level that includes it, and still starts."""
    for done in (level, "dev"):
        try:
            mark = json.loads(mark_path(root, done).read_text())
        except (OSError, ValueError):
            continue
        if mark == wanted_mark(root, done) and venv_works(root):
            return True
    return False


def mark_path(root: Path, level: str) -> Path:
    return root / ".venv" / f"ostiary-{level}.json"


def drop_marks(root: Path) -> None:
    for level in LEVELS:
        mark_path(root, level).unlink(missing_ok=True)


def write_mark(root: Path, level: str) -> None:
    """Say that all is done: written aside and renamed, so that half a mark never exists."""
    path = mark_path(root, level)
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(wanted_mark(root, level)))
    aside.replace(path)


# ── the environment ────────────────────────────────────────────────────────────────────────────


def venv_python(root: Path) -> Path:
    return root / ".venv" / "bin" / "python"


def answers(*command: str | Path) -> bool:
    """Say whether a command starts and ends well; what it prints is of no interest."""
    try:
        return (
            subprocess.run(
                command, capture_output=True, check=False, env=clean_environment()
            ).returncode
            == 0
        )
    except OSError:
        return False


def venv_works(root: Path) -> bool:
    return answers(venv_python(root), "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})")


def venv_has_pip(root: Path) -> bool:
    return venv_works(root) and answers(venv_python(root), "-m", "pip", "--version")


def venv_was_moved(root: Path) -> bool:
    """Say whether the environment's scripts point to another folder, as they do after `mv` or `cp -r` of the tree."""
    try:
        head = (root / ".venv" / "bin" / "pip").read_text()[:400]
    except OSError:
        return False
    return str(root / ".venv") not in head


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would lead pip or Python out of `.venv`."""
    away = (
        "PYTHONHOME",
        "PYTHONPATH",
        "PIP_USER",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
    )
    kept = {name: value for name, value in os.environ.items() if name not in away}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def make_venv(root: Path) -> None:
    """Make `.venv` with a pip in it, by the first way that works on this machine."""
    venv = root / ".venv"
    if venv.exists():
        if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
            raise SetupFailed(
                f"{venv} exists and is not a Python environment.",
                "Set-up would have to delete it, and it may be something you want to keep.",
                f"Move {venv} away and run this again.",
            )
        say("the .venv that is here is unfinished, or was made elsewhere; making it anew")
        shutil.rmtree(venv)
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"making .venv with Python {version} ({sys.executable})")
    for name, way in ways_to_a_venv(root):
        shutil.rmtree(venv, ignore_errors=True)
        if answers(*way[0]) and all(answers(*step) for step in way[1:]) and venv_has_pip(root):
            return
        say(f"  not by {name}, trying the next way")
    shutil.rmtree(venv, ignore_errors=True)
    install_debian_venv()
    if not (answers(sys.executable, "-m", "venv", str(venv)) and venv_has_pip(root)):
        raise SetupFailed(
            "Python could not make a virtual environment, even with its venv package installed.",
            "Ostiary's packages cannot be kept apart from the system's.",
            f"Run '{sys.executable} -m venv .venv' and read what it says.",
        )


def ways_to_a_venv(root: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Each way to a `.venv` with pip: its name and its commands, the commonest first."""
    venv, inside, python = str(root / ".venv"), str(venv_python(root)), sys.executable
    bare = [python, "-m", "venv", "--without-pip", venv]
    yield "venv", [[python, "-m", "venv", venv]]
    for wheel in sorted(WHEELS.glob("pip-*.whl"), reverse=True):
        yield (
            "Debian's pip wheel",
            [bare, [inside, f"{wheel}/pip", "install", "--no-index", str(wheel)]],
        )
    pinned = [
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        str(root / "requirements" / "build.txt"),
    ]
    yield "the system's pip", [bare, [python, "-m", "pip", "--python", inside, *pinned]]
    yield "virtualenv", [[python, "-m", "virtualenv", venv]]
    if program := shutil.which("virtualenv"):
        yield "the virtualenv command", [[program, "--python", python, venv]]
    if program := shutil.which("uv"):
        # uv has its own list of authorities too; behind an inspecting proxy the system's is the right one.
        for trusting in ([], ["env", "UV_SYSTEM_CERTS=1", "UV_NATIVE_TLS=1"]):
            yield (
                "uv",
                [
                    [program, "venv", "--python", python, venv],
                    [*trusting, program, "pip", "install", "--python", inside, *pinned[1:]],
                ],
            )


def install_debian_venv() -> None:
    """Install the package that Debian splits off from Python, if we may; say so before."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = bool(shutil.which("apt-get")) and (not become_root or answers("sudo", "-n", "true"))
    if not may:
        raise SetupFailed(
            f"This Python ({sys.executable}) can make no virtual environment: it comes without ensurepip, "
            "and neither pip, virtualenv nor uv is here.",
            "Ostiary's packages have nowhere to go. Nothing was changed.",
            f"Ask somebody with root to run: apt-get install {package}  (on Debian and Ubuntu), "
            "then run this again. PYTHON=/path/to/python3 chooses another Python.",
        )
    say(f"this Python lacks its venv package; installing {package} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
        done = subprocess.run([*become_root, "apt-get", "-q", *step], check=False, env=environment)
        if done.returncode:
            raise SetupFailed(
                f"apt-get {step[0]} failed.",
                f"{package} could not be installed, and without it there is no virtual environment.",
                "Read apt-get's words above; most often the network or the package sources are the reason.",
            )


# ── the packages ───────────────────────────────────────────────────────────────────────────────


def count_pins(root: Path, level: str) -> int:
    """How many packages the requirement files ask for on this kind of machine."""
    names = set()
    for name in LEVELS[level]:
        for line in (root / "requirements" / name).read_text().splitlines():
            found = PINNED.match(line)
            if found and not ("win32" in (found["marker"] or "") and "== 'win32'" in line):
                names.add(line.split("==")[0].lower())
    return len(names)


def pip(root: Path, *arguments: str, total: int = 0) -> None:
    """Run the environment's pip, counting packages as they arrive; all it said is shown if it fails.

    A pip that knows only its own list of authorities fails behind a proxy that inspects TLS. It gets a second
    try with the list that this system trusts, unless the caller chose one.
    """
    environment = clean_environment()
    code, said = run_pip(root, arguments, environment, total)
    if (
        code
        and "CERTIFICATE_VERIFY_FAILED" in said
        and "PIP_CERT" not in environment
        and SYSTEM_TRUST.exists()
    ):
        say(
            f"the packages' server shows a certificate that pip does not know; trying with {SYSTEM_TRUST}"
        )
        code, said = run_pip(root, arguments, {**environment, "PIP_CERT": str(SYSTEM_TRUST)}, total)
    if code:
        print(said)
        raise SetupFailed(
            "pip could not install the packages.",
            "The environment is unfinished and will not be used; what was downloaded is kept for the next try.",
            "Read pip's words above: most often the network or a proxy is the reason (PIP_CERT names the "
            "authorities to trust). If a hash does not match, do not go on: what arrived is not what was pinned.",
        )


def run_pip(
    root: Path, arguments: tuple[str, ...], environment: dict[str, str], total: int
) -> tuple[int, str]:
    """The exit code of one run of pip, and all it said."""
    said: list[str] = []
    count = 0
    command = [str(venv_python(root)), "-m", "pip", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=root,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for; this tells the type checker
        for line in process.stdout:
            said.append(line)
            if total and (found := PACKAGE_SEEN.match(line)):
                count += 1
                show_progress(count, total, found["name"])
            elif total and line.startswith("Installing collected packages"):
                show_progress(total, total, "writing them to .venv")
    if sys.stdout.isatty() and total:
        print()
    return process.returncode, "".join(said)


def show_progress(count: int, total: int, name: str) -> None:
    """One line that counts: rewritten in a terminal, every twentieth package elsewhere."""
    line = f"setup:   {min(count, total):3d} of {total}  {name}"
    if sys.stdout.isatty():
        print(f"\r{line:<70}", end="", flush=True)
    elif count % 20 == 0 or count == total:
        print(line, flush=True)


def install(root: Path, level: str) -> None:
    """Put the pinned packages and the project into `.venv`, then mark it as done."""
    files = [part for name in LEVELS[level] for part in ("-r", f"requirements/{name}")]
    say(
        f"installing {' and '.join(f'requirements/{name}' for name in LEVELS[level])}, hashes checked"
    )
    pip(root, "install", "--require-hashes", *files, total=count_pins(root, level))
    say("installing ostiary itself, as a link to src/")
    pip(root, "install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", ".")
    write_mark(root, level)


def set_up(root: Path, level: str) -> None:
    """Bring `.venv` to the level asked for; does nothing when it is there already."""
    if has_mark(root, level):
        return
    started_at = time.monotonic()
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(
            folder, fcntl.LOCK_EX
        )  # two makes at once: the second waits and finds the work done
        if has_mark(root, level):
            return
        drop_marks(root)
        if not venv_has_pip(root) or venv_was_moved(root):
            make_venv(root)
        install(root, level)
    finally:
        os.close(folder)
    say(f"done in {time.monotonic() - started_at:.0f} s: .venv is ready")


def main(arguments: list[str]) -> int:
    level = arguments[0] if arguments else "dev"
    if level not in LEVELS:
        print(
            f"setup: error: unknown level {level!r}; choose one of: {', '.join(LEVELS)}",
            file=sys.stderr,
        )
        return 64
    if sys.version_info < OLDEST:  # run by hand, this may be any Python
        version = ".".join(map(str, sys.version_info[:3]))
        print(
            f"setup: error: {sys.executable} is Python {version}; Ostiary needs 3.11 or newer.\n"
            "setup: to do: install python3.11, or choose another with PYTHON=/path/to/python3",
            file=sys.stderr,
        )
        return 69
    try:
        set_up(ROOT, level)
    except SetupFailed as failure:
        for line in failure.lines:
            print(f"setup: {line}", file=sys.stderr)
        return 69
    except KeyboardInterrupt:
        print(
            "\nsetup: stopped. Nothing is marked as done; run the same command again and it goes on.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
