# The environment is .venv; it is made anew when pyproject.toml or setup.py changes.
PYTHON ?= python3
BIN := .venv/bin
# Editors and type checkers find the package too: they follow a path, no import hook.
FOUND := --config-settings editable_mode=compat
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv run test quick lint types perf docs prove deb clean

help:
	@echo "make run      start on 127.0.0.1:2525 without any configuration"
	@echo "make test     the whole suite, with real servers beside us (make quick: without)"
	@echo "make lint types perf docs prove deb venv clean"

venv: .venv/.package

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "On Debian: apt-get install python3-venv"; exit 1; }

.venv/.package: pyproject.toml setup.py | .venv/bin/pip
	$(BIN)/pip install --quiet --editable '.[test]' $(FOUND)
	@touch $@

.venv/.dev: .venv/.package
	$(BIN)/pip install --quiet --editable '.[dev]' $(FOUND)
	@touch $@

run: venv
	@exec $(BIN)/smtpproxy try

test: .venv/.dev
	@sh tests/needs.sh
	@sh tests/suite.sh $(BIN)/python

quick: .venv/.dev
	$(BIN)/python -m pytest -q -x --ignore=tests/journeys --ignore=tests/scripting/test_preemption.py

lint: .venv/.dev
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

# The parts by themselves, then the whole server's CPU per message (docs/performance.md).
perf: .venv/.dev
	$(BIN)/python -m pytest perf -q --benchmark-enable --benchmark-only --benchmark-columns=min,median,rounds
	$(BIN)/python perf/whole.py

docs: .venv/.dev
	$(BIN)/python docs/generate.py

# The long proofs in full length (hours; SMTPPROXY_PROVE_SECONDS=20 shortens each); `make test` has them run for seconds.
prove: .venv/.dev
	@sh tests/needs.sh
	SMTPPROXY_PROVE=1 $(BIN)/python -m pytest tests -m proof -v -s

# dist/smtpproxy_VERSION_ARCH.deb, for the Debian that this is run on.
deb: venv
	@sh packaging/deb/build.sh $(CURDIR)/$(BIN)/pip

clean:
	rm -rf .venv .tox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
