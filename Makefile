# `make check` before every commit, `make test` before a push, `make help` for the rest.
# Needs make and Python 3.11 or newer with pip and venv. Environments: .venv (core), .venv-core
# (core and development tools), .venv-legacy (all optional packages, numpy 1, exactly Python 3.11).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := check
.NOTPARALLEL:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ENVIRONMENT := $(PYTHON) tools/environment.py
CORE := .venv-core/bin
LEGACY := .venv-legacy/bin
# A worker process per core. More threads in each would compete for the same cores.
PARALLEL := OMP_NUM_THREADS=1
WORKERS := -n auto --maxprocesses 8 --dist worksteal

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: check lint types test-fast
check: lint types test-fast ## lint, types and fast tests (default)

lint: dev ## ruff: rules and format
	$(CORE)/ruff check
	$(CORE)/ruff format --check

types: dev ## mypy, strict
	$(CORE)/mypy

test-fast: dev ## tests that take less than a second
	$(PARALLEL) $(CORE)/python -m pytest -q $(WORKERS) -m 'not slow and not nightly and not legacy'

.PHONY: demo
demo: core ## install the core and make out.mp4 from the example
	.venv/bin/loris soundtrack examples/skate.mp4 -o out.mp4 --overwrite
	@echo "The soundtrack is in $(CURDIR)/out.mp4"

.PHONY: core dev legacy
core: ## .venv: the core, as users install it
	@$(ENVIRONMENT) .venv core

dev: ## .venv-core: the core, linters and test tools
	@$(ENVIRONMENT) .venv-core dev

legacy: ## .venv-legacy: mmpose, spleeter, madmom, Ray and others, with numpy 1
	@$(ENVIRONMENT) .venv-legacy legacy

.PHONY: test test-legacy test-all
test: dev ## all tests of the core
	$(PARALLEL) $(CORE)/python -m pytest -q $(WORKERS) -m 'not nightly and not legacy'

test-legacy: legacy ## tests of optional packages, and numerical tests with numpy 1
	$(PARALLEL) $(LEGACY)/python -m pytest -q $(WORKERS) -m '(legacy or numpy1) and not nightly'

test-all: test test-legacy ## both, and tests that take minutes
	$(CORE)/python -m pytest -m nightly

.PHONY: fuzz
fuzz: dev ## 2,800 damaged videos through the media readers and the mux, in minutes
	$(PARALLEL) $(CORE)/python tools/fuzz_media.py

.PHONY: completions dist clean
completions: dev ## write completions/ again
	$(CORE)/python tools/completions.py

dist: dev ## dist/: wheel and source archive
	rm -rf build dist
	$(CORE)/python -m build --no-isolation --outdir dist

clean: ## remove everything that was made, except the environments
	rm -rf build dist out.mp4 .*_cache .hypothesis *.egg-info
	find loris_cli commands experiments tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
