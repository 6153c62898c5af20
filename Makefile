# Every target builds on `setup`, which does nothing when nothing changed.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo up down test check lint unit integration detection mutants healthy-drills random-damage histories forecasts again flipped-bytes queue-jobs faults kills alarms setups drawn thorough detection-table e2e bench bench-exact bench-logical bench-health bench-retention constraints reference clean

# What one wants to hand on: make unit ARGS='-k lsn', make bench ARGS=full
ARGS ?=
# Programs run with what set-up brought on PATH: wal-g where it could be fetched, and barman-cloud.
RUN := PATH="$(CURDIR)/.local/bin:$(CURDIR)/.venv/bin:$$PATH" "$(CURDIR)/.venv/bin/python"

# Two files of tests at a time, three where they wait for tools and stores more than they compute.
TWO := -n 2 --dist loadfile
THREE := -n 3 --dist loadfile

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Make .venv and fetch wal-g, which is tried again each time; quick when nothing changed, heals what was interrupted
	@ready=$$(cat .venv/.ready 2>/dev/null); sh scripts/setup.sh && \
	if [ "$(filter setup,$(MAKECMDGOALS))" ] && [ "$$ready" = "$$(cat .venv/.ready)" ]; then .venv/bin/python -m pgdrill.repository.tools.install_walg --into .local/bin; fi

demo: setup ## Back up a live cluster, restore it, prove vector search; leaves nothing but the report
	@$(RUN) -m pgdrill_demo demo $(ARGS)

up: setup ## Start the demo's servers and Airflow, and leave them running
	@$(RUN) -m pgdrill_demo up $(ARGS)

down: setup ## Stop what `make up` started
	@$(RUN) -m pgdrill_demo down $(ARGS)

test: lint unit integration detection drawn e2e ## Everything a change has to pass

check: lint unit ## What a change is tried by while it is made: no server, within a minute

thorough: mutants healthy-drills random-damage histories forecasts again flipped-bytes queue-jobs faults kills alarms setups ## What takes longer: the checks themselves tested, healthy drills, random damage

drawn: setup ## Ten faults of a store, ten kill -9 and ten set-ups, drawn by the commit's number (PGDRILL_SEED=… names another draw)
	@$(RUN) -m pytest tests/faults tests/kills tests/setups $(TWO) $(ARGS)

again: setup ## Every task of every DAG tried three times and cleared, in a real Airflow on a living database
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/e2e/test_again.py $(ARGS)

faults: setup ## Every storage call of every job with every fault, into docs/evidence/faults.md (hours; goes on where it was stopped; AFRESH=1)
	@$(if $(AFRESH),rm -f tests/faults/found.json)
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/faults -s $(ARGS)

kills: setup ## kill -9 at every point of drill, backup, dump, prune, into docs/evidence/kills.md (hours; goes on where it was stopped; AFRESH=1)
	@$(if $(AFRESH),rm -f tests/kills/found.json)
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/kills -s $(ARGS)

alarms: setup ## Each harm to a watched production, its alert and its end, into docs/evidence/alerts.md (half an hour)
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/alarms -s $(ARGS)

setups: setup ## Every ordinary server, client and store that is known of, into docs/evidence/setups.md (an hour; goes on where it was stopped; AFRESH=1)
	@$(if $(AFRESH),rm -f tests/setups/found.json)
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/setups -s $(ARGS)

lint: setup ## ruff (rules and format), mypy --strict, and the order of the rooms
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@.venv/bin/lint-imports --no-cache
	@$(RUN) -m mypy

unit: setup ## Tests without a server
	@$(RUN) -m pytest tests/unit -n logical $(ARGS)

integration: setup ## Tests with real PostgreSQL, real tools and a real S3, all on this machine
	@$(RUN) -m pytest tests/integration tests/way_in $(THREE) $(ARGS)

detection: setup ## Damage a restored cluster in every way, and see that the fitting check is red
	@$(RUN) -m pytest tests/detection --ignore tests/detection/test_checks_are_needed.py $(TWO) $(ARGS)

mutants: setup ## Take each check away in turn, and see that a detection test misses it
	@$(RUN) -m pytest tests/detection/test_checks_are_needed.py $(ARGS)

healthy-drills: setup ## A hundred drills under everything that a live cluster does, without a false alarm
	@PGDRILL_HEALTHY_DRILLS=100 $(RUN) -m pytest tests/detection/test_healthy.py -n 2 --dist load $(ARGS)

histories: setup ## Fourteen weeks by barman-cloud, pruned and killed at every step, and a million operations of retention
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/integration/retention/test_retention.py tests/integration/retention/test_prune_tools.py -k barman $(ARGS)
	@$(RUN) -m tests.unit.retention.test_machine 1000000

forecasts: setup ## Drills and HNSW builds of four times the size against their forecasts; wants the cores to itself
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/integration/reports/forecast/test_forecast.py tests/integration/logical/test_build_forecast.py $(ARGS)

flipped-bytes: setup ## A thousand bytes flipped in rows that were compared exactly, each of which has to be red
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/integration/jobs/test_around_restore_point.py -k flipped_byte $(ARGS)

queue-jobs: setup ## A hundred thousand jobs over five queues, copied, loaded and restored while workers work; `make test` has 5,000
	@PGDRILL_THOROUGH=1 $(RUN) -m pytest tests/integration/queues/test_many_jobs.py -s $(ARGS)

detection-table: setup ## Run them and write docs/evidence/detection.md: what is caught, by which check, in what time
	@$(if $(ARGS),,rm -f tests/detection/caught.json)
	@PGDRILL_DETECTION_TABLE=1 $(RUN) -m pytest $(or $(ARGS),tests/detection) --ignore tests/detection/test_checks_are_needed.py $(TWO)

e2e: setup ## Tests with a real Airflow
	@$(RUN) -m pytest tests/e2e $(TWO) $(ARGS)

bench: setup ## Measure restores beside every baseline (ARGS=full: the goals' own sizes); nothing passes or fails
	@$(RUN) -m bench $(ARGS)

random-damage: setup ## A thousand random damages to a small cluster: none may pass over changed content
	@$(RUN) -m bench.random_damage $(ARGS)

bench-exact: setup ## Measure the exact search that recall is judged by
	@$(RUN) -m bench.exact_search $(ARGS)

bench-logical: setup ## Measure logical dumps and their restores
	@$(RUN) -m bench.logical $(ARGS)

bench-health: setup ## Measure what the watch of fifty clusters takes of processor and memory
	@$(RUN) -m bench.health $(ARGS)

bench-retention: setup ## Measure how long planning takes
	@$(RUN) -m bench.retention $(ARGS)

constraints: ## Resolve requirements.txt afresh and write constraints.txt (PYTHON=the oldest to support)
	@sh scripts/setup.sh constraints

reference: setup ## Write the pages of docs/reference that are made from the program: commands, configuration, checks, doctor
	@PYTHONPATH=include $(RUN) scripts/reference.py

clean: ## Remove .venv, .local and every cache in this folder
	rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist include/*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
