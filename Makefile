# Every target sets up what it needs first; on a machine that is set up this takes a second.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test tests test-long check lint unit spark system bench bench-quick bench-lock lock cds clean

PYTHON_IN := .venv/bin/python
PYTEST := $(PYTHON_IN) -m pytest
# A test may start Kafka and two Spark drivers one after the other on two slow cores. One that takes longer than this hangs.
TIMEOUT := 600
# A long test injects faults into a stream under load for minutes, and then reads everything that it wrote.
LONG_TIMEOUT := 1800
# Two workers, because the tests with real processes often wait for one. A file's tests share a worker, and what it has started. Files go
# out in the order of their names: the long ones first, so that neither worker is left alone with one at the end.
WORKERS := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
CASE ?=
REPEATS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install everything into .venv and .jars, checked against hashes (Java by apt where it is missing)
	@deploy/local/bootstrap.sh

demo: setup ## from recorded answers of Open-Meteo to gold in minutes, with a crash and a revision on the way
	@.venv/bin/weir demo

test: setup ## everything: lint, and all tests but the long ones, on two workers
	@$(MAKE) --no-print-directory --jobs=2 lint tests

# The tests start some hundred drivers, each of them several seconds sooner from the archive. Without it they only take longer.
tests: setup
	-@$(MAKE) --no-print-directory cds
	$(PYTEST) tests/system tests/spark tests/unit --timeout=$(TIMEOUT) --durations=12 $(WORKERS)

test-long: setup ## the fault tests that take minutes each: kills under load, Kafka, disks, bad data, the catalog; prints their figures
	$(PYTEST) tests/long --timeout=$(LONG_TIMEOUT) --durations=0

check: lint unit ## lint and the unit tests

lint: setup ## ruff and mypy --strict
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

unit: setup ## the unit tests: minutes
	$(PYTEST) tests/unit --timeout=$(TIMEOUT)

spark: setup ## the tests on local Spark and Iceberg: minutes
	$(PYTEST) tests/spark --timeout=$(TIMEOUT) --durations=12

system: setup ## the tests with real Kafka, processes, kills and restarts
	$(PYTEST) tests/system --timeout=$(TIMEOUT) --durations=12 $(WORKERS)

bench: setup ## benchmarks; one of them with CASE=name, other than its runs with REPEATS=n
	$(PYTHON_IN) -m bench $(if $(REPEATS),--repeats $(REPEATS)) $(CASE)

bench-quick: setup ## the same on less data
	$(PYTHON_IN) -m bench --quick $(CASE)

bench-lock: setup ## rewrite bench/peer/jars.lock from the jars.in beside it
	$(PYTHON_IN) -m deploy.local.jars lock --wanted bench/peer/jars.in

lock: setup ## rewrite the lock files of Python packages and jars from pyproject.toml and the *.in files (UPGRADE=1: newest versions)
	@deploy/local/lock.sh $(if $(UPGRADE),--upgrade)

cds: setup ## an archive of the driver's classes (some 210 MB), so that drivers start sooner (FORCE=1: replace it)
	@$(PYTHON_IN) -m deploy.local.make_class_archive $(if $(FORCE),--force)

clean: ## remove .venv, .jars (with the archive of make cds), .tools and caches; data (.weir) stays
	@echo "removing .venv .jars .tools and caches; .weir stays"
	@for made in .venv .jars; do if [ -L $$made ]; then rm -rf "$$(readlink -f $$made)"; fi; done
	@rm -rf .venv .jars .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
