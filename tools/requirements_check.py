"""Say whether requirements/*.txt still fit pyproject.toml, without asking the network: a part of `make check`."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;\\]+)")
ADDRESS = re.compile(r"https?://|file://|--(extra-)?index-url|--find-links|\s@\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package at one version, and how many hashes it may have."""

    version: str
    hash_count: int


def read_pins(text: str) -> dict[NormalizedName, Pin]:
    """The pins of one requirements file, by name."""
    pins: dict[NormalizedName, Pin] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        if found := PIN.match(block.strip()):
            pin = Pin(version=found["version"], hash_count=block.count("--hash=sha256:"))
            pins[canonicalize_name(found["name"])] = pin
    return pins


def unmet(wanted: list[str], pins: Mapping[NormalizedName, Pin], file: str) -> Iterator[str]:
    """A line for each requirement that a file pins not at all, or at a version outside its bounds."""
    for text in wanted:
        requirement = Requirement(text)
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            yield f"{file}: {requirement.name} is not pinned"
        elif not requirement.specifier.contains(pin.version, prereleases=True):
            yield f"{file}: {requirement.name}=={pin.version} does not fit pyproject.toml's {requirement.specifier}"


def faults(project: Mapping[str, object], text_by_file: Mapping[str, str]) -> Iterator[str]:
    """A line for each way in which the pins and the project file disagree."""
    pins_by_file = {file: read_pins(text) for file, text in text_by_file.items()}
    for file, text in text_by_file.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if ADDRESS.search(line):
                yield f"{file}:{number}: names an address; pins are names, versions and hashes alone"
        for name, pin in pins_by_file[file].items():
            if not pin.hash_count:
                yield f"{file}: {name} has no hash"
    for name, pin in pins_by_file["run.txt"].items():
        other = pins_by_file["dev.txt"].get(name)
        if other is None or other.version != pin.version:
            yield f"dev.txt: {name} is not at run.txt's {pin.version}"
    for file, wanted in requirements_by_file(project).items():
        yield from unmet(wanted, pins_by_file[file], file)


def requirements_by_file(project: Mapping[str, object]) -> dict[str, list[str]]:
    """What pyproject.toml asks each requirements file to hold."""
    match project:
        case {
            "build-system": {"requires": list(backend)},
            "project": {"dependencies": list(run), "optional-dependencies": {"dev": list(dev)}},
            "dependency-groups": {"build": list(build)},
        }:
            return {"run.txt": run, "dev.txt": [*run, *dev], "build.txt": [*backend, *build]}
        case _:
            raise SystemExit(
                "pyproject.toml: lacks one of build-system, dependencies, dev, or the build group"
            )


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = {
        name: (ROOT / "requirements" / name).read_text()
        for name in ("run.txt", "dev.txt", "build.txt")
    }
    found = list(faults(project, texts))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
