PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
KILLS  ?= 200
export PYTHONDONTWRITEBYTECODE :=# else each of the hundreds of processes that tests start compiles all sources anew
BENCHMARKS := parameter_server launch overhead precision optimizers staleness checkpoint scaling recovery straggler communication \
	supernode_traffic supernode_grouping memory generation serving service

.DEFAULT_GOAL := help

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## install, then from an upload to an invoice on a service of its own
	$(BIN)/aimass demo

test: $(VENV)/.installed-dev  ## every test that needs no GPU
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu'

check: $(VENV)/.installed-dev  ## format, lint, types, layers, doctests
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q --doctest-modules src --ignore=src/aimass/store/migrations/env.py -n 0

soak: $(VENV)/.installed-dev  ## kill workers KILLS=200 times at chosen and random moments
	AIMASS_SOAK_KILLS=$(KILLS) $(BIN)/python -m pytest -m soak tests/faults -n 0 --timeout 3000

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: .venv-bench/.installed  ## measure speed against the peers, in one run each
	cd benchmarks && for script in $(BENCHMARKS); do ../.venv-bench/bin/python $$script.py || exit 1; done

docs: $(VENV)/.installed-dev  ## check that every link and every Python example in the documents works
	$(BIN)/python -m pytest -q tests/test_documents.py -n 0

clean:  ## remove what was built here
	rm -rf $(VENV) .venv-bench build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo test check soak bench docs clean
