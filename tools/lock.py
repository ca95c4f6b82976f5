"""Pin every dependency of pyproject.toml with its hashes, in requirements/*.txt: what `make lock` does.

The files hold names, versions and hashes, and no address: where packages come from is the guest's choice.
Pins stay where they are unless pyproject.toml asks otherwise; `--upgrade` looks for newer ones.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).parent / "uv"
OPTIONS = (
    *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-header", "--annotation-style", "line"),
    # uv leaves addresses out by itself unless a setting of the guest's asks for them; these say so outright.
    *("--no-emit-index-url", "--no-emit-find-links"),
)
FILES = {  # each constrained by the ones before it, so that one package has one version everywhere
    "run.txt": ("pyproject.toml",),
    "dev.txt": ("--extra", "dev", "-c", "requirements/run.txt", "pyproject.toml"),
    "build.txt": ("--group", "pyproject.toml:build", "-c", "requirements/dev.txt"),
}


def main(arguments: list[str]) -> int:
    for name, sources in FILES.items():
        print(f"lock: requirements/{name}", flush=True)
        command = [str(UV), *OPTIONS, *sources, "-o", f"requirements/{name}", *arguments]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            print(
                f"lock: error: uv could not pin requirements/{name}; its words stand above",
                file=sys.stderr,
            )
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
