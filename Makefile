# Ostiary's front door. A guest needs Python 3.11 or newer and make; everything else arrives by itself, in .venv.
# `make` alone says what there is.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
ARGS ?=

# The whole suite runs on two workers or more; a part, or a run under a debugger, in one process, where prints and pdb work.
A_PART := $(filter -n% -k% -m% -s -x --pdb --lf --ff --sw tests/%,$(ARGS))
WORKERS := $(if $(A_PART),,-n auto --maxprocesses 4 --dist worksteal)

.DEFAULT_GOAL := help
.PHONY: help setup setup-run python demo test check format cases fuzz bench lock clean

help: ## what there is
	@echo "Ostiary, an Apple MDM server that keeps the keys."
	@echo
	@echo "  make demo     a server, simulated devices and a simulated APNs, live in this terminal"
	@echo "  make test     all tests; a part with ARGS, as in: make test ARGS=\"-k tokenupdate\""
	@echo "                (--long: the long forms; --no-skips: a skipped test is a failed one)"
	@echo "  make check    formatting, lint, types, floors between rooms, spelling, links: changes nothing"
	@echo
	@echo "  make setup    .venv with ostiary and all tools in it; the targets above do it by themselves"
	@echo "  make format   format the code and mend what lint can mend"
	@echo "  make cases    which documented cases (docs/protocol) are covered, and by which tests"
	@echo "  make fuzz     feed every decoder broken bytes; as in: make fuzz ARGS=\"--seconds 60\""
	@echo "  make bench    measure the hot paths against their bars, on both engines; a look in seconds:"
	@echo "                make bench ARGS=\"--quick --engine postgres\"; all else: ARGS=--help"
	@echo "  make lock     pin the dependencies of pyproject.toml again; ARGS=--upgrade for newer versions"
	@echo "  make clean    remove .venv and what the tools have cached"
	@echo
	@echo "  PYTHON=/path/to/python3 chooses another Python than the first that fits ($(or $(PYTHON),none found))."
	@echo "  New here? README.md, then docs/index.md."

python:
	@test -n "$(PYTHON)" || { \
	echo "error: no Python 3.11 or newer was found." >&2; \
	echo "to do: install it (on Debian 12: apt-get install python3), or name one: make PYTHON=/path/to/python3 ..." >&2; \
	exit 69; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "error: $(PYTHON) is not Python 3.11 or newer." >&2; \
	echo "to do: leave PYTHON out, or name another one." >&2; \
	exit 69; }

setup: python ## everything, for running and for working on it
	@$(PYTHON) tools/setup.py dev

setup-run: python ## only what a server and the demo need
	@$(PYTHON) tools/setup.py run

demo: setup-run
	@$(BIN)/ostiary demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

check: setup
	@$(BIN)/python -m tools.check $(ARGS)

format: setup
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

cases: setup
	@$(BIN)/python -m tools.cases

fuzz: setup
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

bench: setup
	@$(BIN)/python bench/run.py $(ARGS)

lock: setup
	@$(BIN)/python -m tools.lock $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
