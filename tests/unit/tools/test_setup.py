"""Set-up marks as done only what is done, and says what to do where it cannot go on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import setup


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree as set-up sees it, with an environment that works."""
    (tmp_path / "requirements").mkdir()
    for name in ("build.txt", "run.txt", "dev.txt"):
        (tmp_path / "requirements" / name).write_text("typer==1 \\\n    --hash=sha256:00\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def test_a_finished_environment_has_its_mark(tree: Path) -> None:
    assert not setup.has_mark(tree, "run")
    setup.write_mark(tree, "run")
    assert setup.has_mark(tree, "run")
    assert not setup.has_mark(tree, "dev")


def test_an_environment_for_work_will_also_run_the_server(tree: Path) -> None:
    setup.write_mark(tree, "dev")
    assert setup.has_mark(tree, "run")


@pytest.mark.parametrize(
    "name", ["requirements/dev.txt", "requirements/build.txt", "pyproject.toml"]
)
def test_a_mark_ends_when_what_it_stands_for_changes(tree: Path, name: str) -> None:
    setup.write_mark(tree, "dev")
    with (tree / name).open("a") as file:
        file.write("# changed\n")
    assert not setup.has_mark(tree, "dev")


def test_a_mark_ends_when_the_tree_has_moved(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    setup.write_mark(tree, "dev")
    moved = tree.rename(tmp_path_factory.mktemp("elsewhere") / "tree")
    assert not setup.has_mark(moved, "dev")


def test_a_mark_ends_when_the_python_behind_it_is_gone(tree: Path) -> None:
    setup.write_mark(tree, "dev")
    (tree / ".venv" / "bin" / "python").unlink()
    assert not setup.has_mark(tree, "dev")


def test_half_a_mark_is_no_mark(tree: Path) -> None:
    setup.mark_path(tree, "dev").write_text('{"level": "de')
    assert not setup.has_mark(tree, "dev")


def test_an_interrupted_run_leaves_no_mark(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old mark goes before the first package is touched, and the new one comes after the last."""
    setup.write_mark(tree, "dev")
    with (tree / "pyproject.toml").open("a") as file:
        file.write("# changed\n")

    def interrupted(root: Path, *_arguments: str, **_total: int) -> None:
        assert not setup.mark_path(root, "dev").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "pip", interrupted)
    monkeypatch.setattr(setup, "venv_has_pip", lambda _root: True)
    with pytest.raises(KeyboardInterrupt):
        setup.set_up(tree, "dev")
    assert not setup.mark_path(tree, "dev").exists()


def test_a_folder_that_is_no_environment_is_never_deleted(tree: Path) -> None:
    with pytest.raises(setup.SetupFailed) as caught:
        setup.make_venv(tree)
    assert "is not a Python environment" in caught.value.lines[0]
    assert (tree / ".venv" / "bin" / "python").exists()


def test_without_root_a_python_that_can_make_no_environment_gets_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tools.setup.os.geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "answers", lambda *_command: False)
    with pytest.raises(setup.SetupFailed) as caught:
        setup.install_debian_venv()
    happened, means, remedy = caught.value.lines
    assert "ensurepip" in happened
    assert "Nothing was changed" in means
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in remedy


def test_a_second_try_trusts_what_the_system_trusts(
    tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind a proxy that inspects TLS, pip's own list of authorities is not enough."""
    trust = tmp_path / "authorities.crt"
    trust.touch()
    tries: list[str | None] = []

    def run_pip(
        _root: Path, _arguments: object, environment: dict[str, str], _total: int
    ) -> tuple[int, str]:
        tries.append(environment.get("PIP_CERT"))
        return (1, "CERTIFICATE_VERIFY_FAILED") if len(tries) == 1 else (0, "")

    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setattr(setup, "SYSTEM_TRUST", trust)
    monkeypatch.setattr(setup, "run_pip", run_pip)
    setup.pip(tree, "install")
    assert tries == [None, str(trust)]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Collecting hatchling==1.33.0 (from -r requirements/build.txt (line 4))", "hatchling"),
        ("Requirement already satisfied: pytest-xdist==3.8.0 in ./.venv", "pytest-xdist"),
        ("Processing /somewhere/editables-0.6-py3-none-any.whl (from x)", "editables"),
    ],
)
def test_progress_counts_each_package_that_pip_speaks_of(line: str, name: str) -> None:
    found = setup.PACKAGE_SEEN.match(line)
    assert found is not None
    assert found["name"] == name


def test_it_starts_without_any_package_installed() -> None:
    """Isolated from every installed package, it still comes as far as judging its argument."""
    script = Path(setup.__file__)
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 64
    assert "choose one of: run, dev" in ran.stderr
