"""The pins' check sees every way in which requirements/ and pyproject.toml can drift apart."""

from typing import Any

import pytest

from tools.requirements_check import faults

HASH = " \\\n    --hash=sha256:" + "0" * 64 + "\n"


@pytest.fixture
def project() -> dict[str, Any]:
    return {
        "build-system": {"requires": ["hatchling==1.0"]},
        "project": {
            "dependencies": ["Typer>=0.16"],
            "optional-dependencies": {"dev": ["pytest>=8"]},
        },
        "dependency-groups": {"build": ["pip>=26"]},
    }


@pytest.fixture
def texts() -> dict[str, str]:
    run = f"typer==0.20{HASH}    # via ostiary\n"
    return {
        "run.txt": run,
        "dev.txt": f"{run}pytest==9.1 ; sys_platform == 'linux'{HASH}",
        "build.txt": f"hatchling==1.0{HASH}pip==26.1{HASH}",
    }


def test_pins_that_fit_have_no_fault(project: dict[str, Any], texts: dict[str, str]) -> None:
    assert list(faults(project, texts)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("run.txt", "typer==0.20", "typer==0.10", "==0.10 does not fit"),
        ("dev.txt", "pytest==9.1", "other==1", "pytest is not pinned"),
        ("dev.txt", "typer==0.20", "typer==0.21", "typer is not at run.txt's 0.20"),
        ("build.txt", HASH, "\n", "hatchling has no hash"),
        ("run.txt", "# via ostiary", "# from https://packages.example/simple", "names an address"),
        ("build.txt", "hatchling==1.0", "hatchling==1.1", "hatchling==1.1 does not fit"),
    ],
)
def test_each_drift_is_named(
    project: dict[str, Any], texts: dict[str, str], file: str, old: str, new: str, said: str
) -> None:
    texts[file] = texts[file].replace(old, new, 1)
    assert any(said in line for line in faults(project, texts))
