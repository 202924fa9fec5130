# Everything a newcomer runs, and everything CI runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# What the benchmarks measure against wants other versions of what we use.
BENCH_VENV  := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
PIN := $(BIN)/uv pip compile -q --universal --no-emit-index-url --no-emit-find-links --generate-hashes --python-version 3.11 --no-header

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## make .venv with the pinned dependencies and gridtide itself

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gridtide needs Python 3.11 or newer; name one, such as: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "setting up $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: $(STAMP) ## run the main job on an embedded broker and database, and say what happened
	@$(BIN)/gridtide demo

.PHONY: test
test: $(STAMP) ## run all tests; what this machine lacks (Java, Docker) is skipped by name
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

.PHONY: faults
faults: $(STAMP) ## kill, stop and starve the stages on Apache Kafka, and compare with undisturbed runs (long)
	@$(BIN)/python -m pytest tests/faults -m "" -s --show-capture=no
	@$(BIN)/python -m pytest tests/stream -m drill

.PHONY: lint
lint: $(STAMP) ## style, types, import rules, migrations, contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/squawk infra/sql/*.sql
	@$(BIN)/python -m schemas.publish --check

.PHONY: format
format: $(STAMP) ## mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: contracts
contracts: $(STAMP) ## write the JSON Schemas and the AsyncAPI document anew from schemas/
	@$(BIN)/python -m schemas.publish

.PHONY: kafka
kafka: $(STAMP) ## run Apache Kafka on 127.0.0.1:9092 until Ctrl-C (needs Java 17 and Maven)
	@$(BIN)/python -m infra.kafka.local

.PHONY: bench-aggregate
bench-aggregate: $(STAMP) $(BENCH_STAMP) ## measure aggregate beside the bare client, Faust and Quix (needs Java 17, Maven)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.aggregate --json build/bench/aggregate.json

.PHONY: bench-scale
bench-scale: $(STAMP) ## measure aggregate with a second worker, and with ten to a thousand sites (needs Java 17, Maven)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.scale --json build/bench/scale.json

.PHONY: bench-latency
bench-latency: $(STAMP) ## measure how late states and commands are at 10 % and 70 % of capacity (needs Java 17, Maven)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.latency --json build/bench/latency.json

.PHONY: bench-forecast
bench-forecast: $(STAMP) $(BENCH_STAMP) ## backtest the forecaster beside simple methods, statsforecast and LightGBM (needs real traces)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.forecast --json build/bench/forecast.json

.PHONY: bench-policy
bench-policy: $(STAMP) ## simulate every scenario under the policy, against its bars (needs real traces and prices)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.policy --json build/bench/policy.json

.PHONY: bench-planner
bench-planner: $(STAMP) ## measure how long the planner takes for 100 and 1,000 sites, beside bare programs
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.planner --json build/bench/planner.json

.PHONY: bench-history
bench-history: $(STAMP) ## measure the recorder beside a bare COPY (TimescaleDB too: GRIDTIDE_TEST_TIMESCALE_DSN)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.history --json build/bench/history.json

.PHONY: bench-dashboards
bench-dashboards: $(STAMP) ## measure how fast the history answers (needs GRIDTIDE_TEST_TIMESCALE_DSN)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.dashboards --json build/bench/dashboards.json

.PHONY: soak
soak: $(STAMP) ## half an hour at 70 % of capacity: memory, lag, losses (needs Java 17, Maven)
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.soak --json build/bench/soak.json

$(BENCH_STAMP): requirements-bench.txt
	@echo "setting up $(BENCH_VENV) (once)"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

.PHONY: pin
pin: $(STAMP) ## write requirements*.txt anew from pyproject.toml, without naming a host
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(PIN) pyproject.toml --all-extras --group dev -o requirements.txt
	@$(PIN) --group bench -o requirements-bench.txt

.PHONY: clean
clean: ## remove the environment and the caches
	rm -rf $(VENV) $(BENCH_VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
