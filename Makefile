# Everything by two commands: `make loop` runs the main job, `make test` the tests. Both make the environment first.
# Paths are relative throughout, so that the folder may have any name.

PYTHON ?= python3
ARGS ?=
PY := .venv/bin/python
# Two processes, each with whole files, so that what the tests of a file share is made once; in the order of the folders.
TWO := -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: compiled loop test check bench drills clean help
.DEFAULT_GOAL := help

help:
	@echo 'make loop    the loop itself (ARGS="--max-experiments 6", see `.venv/bin/ralph loop --help`)'
	@echo 'make test    the tests (ARGS="-k ledger")'
	@echo 'make check   lint, types, layers and every test: what CI runs'
	@echo 'make bench   what we claim, measured on this machine'
	@echo 'make drills  attack it, and write what held into docs/isolation.md'
	@echo 'make clean   remove the environment and caches; your state/ stays'

# A machine that has torch already (a CUDA box) keeps using its own; elsewhere the pinned one is installed.
.venv/ready: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'ralph needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 2; }
	@echo 'making the environment in .venv: a few minutes, once (again when pyproject.toml changes)' >&2
	@$(PYTHON) -m venv --clear .venv
	@$(PYTHON) .ci/adopt_torch.py $(PY)
	@if [ -e .venv/own-torch ]; then \
	  $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	else \
	  $(PY) -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[dev]'; \
	fi
	@$(PY) .ci/link_package.py
	@printf '%s\n' '#!/bin/sh' 'exec "$$(dirname "$$0")/python" -m ralph "$$@"' > .venv/bin/ralph && chmod +x .venv/bin/ralph
	@touch .venv/ready

# As the loop does it at its start, for whatever else starts agents, runs and scorers, which write no bytecode.
compiled: .venv/ready
	@$(PY) -m compileall -qq ralph || true

loop: .venv/ready
	@$(PY) -m ralph loop $(ARGS)

test: compiled
	@$(PY) -m pytest $(TWO) -m 'not slow' $(ARGS)

check: compiled
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	@$(PY) -m pytest $(TWO) $(ARGS)

bench: compiled
	@$(PY) -m benchmarks $(ARGS)

drills: compiled
	@$(PY) -m drills $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
