# `make` checks the code; `make demo` makes a soundtrack; `make help` lists the rest.
# Needs make and Python 3.11 with pip and venv: everything else is installed, into
# .venv (the core), .venv-core (the core and its tests) and .venv-legacy (everything).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := check
.NOTPARALLEL:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ENVIRONMENT := $(PYTHON) tools/environment.py
CORE := .venv-core/bin
LEGACY := .venv-legacy/bin

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: check lint types
check: lint types test-core ## lint, types and the core's tests (the default)

lint: dev ## ruff: rules and format
	$(CORE)/ruff check
	$(CORE)/ruff format --check

types: dev ## mypy, strict
	$(CORE)/mypy

.PHONY: demo
demo: core ## install the core and make out.mp4 from the example
	.venv/bin/loris soundtrack examples/skate.mp4 -o out.mp4 --overwrite
	@echo "The soundtrack is in $(CURDIR)/out.mp4"

.PHONY: core dev legacy
core: ## .venv: the core, as a user has it
	@$(ENVIRONMENT) .venv core

dev: ## .venv-core: the core with numpy 2, linters and test tools
	@$(ENVIRONMENT) .venv-core dev

legacy: ## .venv-legacy: everything, with numpy 1 (mmpose, spleeter, madmom, ray, ...)
	@$(ENVIRONMENT) .venv-legacy legacy

.PHONY: test test-core test-all
test: legacy ## the whole suite, with everything installed
	$(LEGACY)/python -m pytest

test-core: dev ## the suite with the core only
	$(CORE)/python -m pytest

test-all: legacy ## the slow tests too: tens of minutes
	$(LEGACY)/python -m pytest -m ''

.PHONY: completions dist clean
completions: dev ## write completions/ again
	$(CORE)/python tools/completions.py

dist: dev ## dist/: the wheel and the source archive
	rm -rf build dist
	$(CORE)/python -m build --no-isolation --outdir dist

clean: ## remove what the others made, but for the environments
	rm -rf build dist out.mp4 .*_cache .hypothesis *.egg-info
	find loris_cli commands experiments tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
