# Every target builds on `setup`, which does nothing when nothing changed.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo up down test lint unit integration e2e bench constraints clean

# What one wants to hand on: make unit ARGS='-k lsn', make bench ARGS='--rows 20000'
ARGS ?=
# Programs run with what set-up brought on PATH: wal-g where it could be fetched, and barman-cloud.
RUN := PATH="$(CURDIR)/.local/bin:$(CURDIR)/.venv/bin:$$PATH" "$(CURDIR)/.venv/bin/python"

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Make .venv and fetch wal-g; quick when nothing changed, heals what was interrupted
	@sh scripts/setup.sh

demo: setup ## Run the whole story once: primary, standby, S3, backup, damage, drill, report
	@$(RUN) -m pgdrill_demo demo $(ARGS)

up: setup ## Start the demo's servers and Airflow, and leave them running
	@$(RUN) -m pgdrill_demo up $(ARGS)

down: setup ## Stop what `make up` started
	@$(RUN) -m pgdrill_demo down $(ARGS)

test: lint unit integration e2e ## Everything a change has to pass

lint: setup ## ruff and mypy --strict
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

unit: setup ## Tests without a server
	@$(RUN) -m pytest tests/unit -n logical $(ARGS)

integration: setup ## Tests with real PostgreSQL, real tools and a real S3, all on this machine
	@$(RUN) -m pytest tests/integration $(ARGS)

e2e: setup ## Tests with a real Airflow and a browser (Debian's package chromium)
	@$(RUN) -m pytest tests/e2e $(ARGS)

bench: setup ## Measure; nothing passes or fails
	@$(RUN) -m bench.drill $(ARGS)

constraints: ## Resolve requirements.txt afresh and write constraints.txt (PYTHON=the oldest to support)
	@sh scripts/setup.sh constraints

clean: ## Remove .venv, .local and every cache in this folder
	rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist include/*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
