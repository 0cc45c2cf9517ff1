# Each target does its own set-up: Python 3.11 or newer, make and a package index are all it needs.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
TEST_ARGS ?=
BENCH_ARGS ?=
SHOP_ARGS ?=
# Tests start hundreds of processes: where Python is told to write no bytecode, each would compile the library again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo shop test coverage test-partitions test-pipelined test-slow test-sqlalchemy-2.0 lint format docs bench bench-peers bench-partitions \
	bench-sizes ci clean
help:  ## show this list
	@grep -hE '^[a-z0-9.-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 24

$(VENV)/.installed: pyproject.toml
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' $(EXTRA_REQUIREMENT)
	@touch $@

demo: $(VENV)/.installed  ## tell an order's story on an embedded PostgreSQL; at a terminal, browse its events then
	$(BIN)/python docs/examples/order_story.py

shop: $(VENV)/.installed  ## serve a shop on http://127.0.0.1:8000/docs, on an embedded PostgreSQL
	cd docs/examples && $(abspath $(BIN))/python -m shop $(SHOP_ARGS)

test: $(VENV)/.installed  ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist=worksteal -m 'not slow' $(TEST_ARGS)

coverage: $(VENV)/.installed  ## run the tests, but for the slow ones, with coverage by branch
	$(BIN)/python -m pytest -n 2 --dist=worksteal -m 'not slow' --cov --cov-report=term $(TEST_ARGS)

test-partitions: $(VENV)/.installed  ## run the tests on a log with four hash partitions
	SA_EVENTSOURCE_TEST_PARTITIONS=4 $(BIN)/python -m pytest -n 2 --dist=worksteal -m 'not slow' $(TEST_ARGS)

test-pipelined: $(VENV)/.installed  ## run the tests with the pipelined dialect
	SA_EVENTSOURCE_TEST_DRIVER=psycopg_pipelined $(BIN)/python -m pytest -n 2 --dist=worksteal -m 'not slow and database' $(TEST_ARGS)

test-slow: $(VENV)/.installed  ## run the slow tests
	$(BIN)/python -m pytest -n 2 --dist=worksteal -m slow $(TEST_ARGS)

test-sqlalchemy-2.0:  ## run the tests on the older SQLAlchemy
	$(MAKE) $(VENV)-sqlalchemy-2.0/.installed VENV=$(VENV)-sqlalchemy-2.0 EXTRA_REQUIREMENT="'sqlalchemy<2.1'"
	$(VENV)-sqlalchemy-2.0/bin/python -m pytest -n 2 --dist=worksteal -m 'not slow' $(TEST_ARGS)

lint: $(VENV)/.installed  ## check style, types and the layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## format and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(VENV)/.installed  ## build the documentation; warnings are errors
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.installed  ## measure against raw psycopg and a plain ORM
	$(BIN)/python -m benchmarks

bench-peers:  ## measure beside other event sourcing libraries, in an environment of its own
	$(MAKE) $(VENV)-peers/.installed VENV=$(VENV)-peers \
		EXTRA_REQUIREMENT="'eventsourcing[postgres]==9.5.*' 'python-event-sourcery[sqlalchemy]==0.6.*' 'sqlalchemy<2.1'"
	$(VENV)-peers/bin/python -m pytest -q tests/benchmarks/test_peers.py
	$(VENV)-peers/bin/python -m benchmarks.peers $(BENCH_ARGS)

bench-partitions: $(VENV)/.installed  ## measure 5 million events with hash partitions and without
	$(BIN)/python -m benchmarks.partitions --events 5000000 $(BENCH_ARGS)

bench-sizes: $(VENV)/.installed  ## measure in logs of 10 thousand, 1 million and 5 million events
	$(BIN)/python -m benchmarks.sizes --events 10000 1000000 5000000 $(BENCH_ARGS)

ci:  ## what CI runs
	bash .ci/run

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-sqlalchemy-2.0 $(VENV)-peers site .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
