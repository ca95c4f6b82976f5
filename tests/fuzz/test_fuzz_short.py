"""Every fuzzing harness on a fixed set of bent seeds: seconds, no atheris, part of each test run."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import fuzz_cms
import fuzz_cms_envelope
import fuzz_mobileconfig
import fuzz_plist
import fuzz_scep
import fuzz_x509
import pytest
from harness import WITHOUT_ATHERIS, mutations

HERE = Path(__file__).parent
TARGETS = [fuzz_cms, fuzz_cms_envelope, fuzz_mobileconfig, fuzz_plist, fuzz_scep, fuzz_x509]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_bent_seeds_raise_only_what_we_know_and_the_oracles_agree(
    target: ModuleType, long_form: bool
) -> None:
    """Source: users.md 5.4 items 2, 16, 17 and 19; escrowed-secrets.md 4.3."""
    for raw in mutations(target.SEEDS, 20_000 if long_form else 600):
        target.check(raw)


def test_every_harness_is_among_the_targets() -> None:
    assert {path.stem for path in HERE.glob("fuzz_*.py")} == {one.__name__ for one in TARGETS}


def test_without_atheris_a_harness_fails_and_says_why(tmp_path: Path) -> None:
    """A run that fuzzed nothing must never look like one that found nothing."""
    (tmp_path / "atheris.py").write_text("raise ImportError('no wheel for this Python')\n")
    done = subprocess.run(
        [sys.executable, HERE / "fuzz_plist.py", "-runs=1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == WITHOUT_ATHERIS
    assert "nothing was fuzzed" in done.stderr
