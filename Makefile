# candlecast: `make up` starts everything, `make test` tests everything. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PY := .venv/bin/python
RUN := .venv/bin
RUST_MIN := 1.88

.PHONY: help up setup train-env remote-env setup-dev web pages check test test-api chromium test-learning bench bench-features gpu-kit faults rollout-proof prometheus test-monitoring dashboards soak proto fmt clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.uv/bin/uv:
	@command -v python3 >/dev/null || { echo "Python 3.11 or newer is missing: install it (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@python3 -m venv .uv || { echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@.uv/bin/pip install --quiet uv==0.13.8

.PHONY: need-rust
need-rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install $(RUST_MIN) or newer from https://rustup.rs, then run make again"; exit 1; }
	@printf '%s\n' $(RUST_MIN) "$$(cargo --version | cut -d' ' -f2)" | sort -VC || { echo "Rust is too old ($$(cargo --version)): install $(RUST_MIN) or newer from https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "A C linker is missing: install one (Debian: apt-get install gcc libc6-dev), then run make again"; exit 1; }

# The application, without training (torch is large).
setup: need-rust $(filter .uv/bin/uv,$(UV)) .venv-triton/.done
	@test -x .venv/bin/candlecast || echo "Building candlecast (a minute or two the first time)"
	@$(UV) sync --quiet --locked --inexact --no-dev

# tritonserver and its Python stub live apart: their numpy is 1.26.
.venv-triton/.done: triton_env/uv.lock triton_env/pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-triton $(UV) sync --quiet --locked --project triton_env
	@touch $@

train-env: setup  ## add what `candlecast train` needs (torch: several GB)
	@$(UV) sync --quiet --locked --inexact --no-dev --extra train

remote-env: setup  ## add what reads models from object stores (s3://, gs://, az://, https://)
	@$(UV) sync --quiet --locked --inexact --no-dev --extra remote

# A server that speaks S3, for tests.
.venv-s3/.done: tests/s3_env/uv.lock tests/s3_env/pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-s3 $(UV) sync --quiet --locked --project tests/s3_env
	@touch $@

# Everything that checks and tests need, training included.
setup-dev: need-rust $(filter .uv/bin/uv,$(UV)) .venv-triton/.done .venv-s3/.done
	@$(UV) sync --quiet --locked --all-extras

# The pages: built once by Node.js from web/, then served without it.
NODE_MIN := 20
PAGES := python/candlecast/dashboard/static/index.html
HAS_NODE = command -v npm >/dev/null && printf '%s\n' $(NODE_MIN) "$$(node --version | tr -d v)" | sort -VC

web/node_modules/.done: web/package-lock.json web/package.json
	@$(HAS_NODE) || { echo "Node.js is missing or older than $(NODE_MIN): install it with npm (Debian: apt-get install nodejs npm; or https://nodejs.org), then run make again"; exit 1; }
	@npm ci --prefix web --silent --no-audit --no-fund --ignore-scripts
	@touch $@

$(PAGES): web/node_modules/.done web/build.mjs $(shell find web/src -type f)
	@node web/build.mjs

web: $(PAGES)  ## build the dashboard's pages (needs Node.js 20)

pages:
	@if $(HAS_NODE); then $(MAKE) --no-print-directory web || echo "The pages at /ml/ could not be built; all else works"; \
	elif ! test -e $(PAGES); then echo "Node.js $(NODE_MIN) is missing, so the pages at /ml/ are not built; all else works. Install it (Debian: apt-get install nodejs npm), then run make again"; fi

up: setup pages  ## build what is needed, start everything, print where it listens
	@exec $(RUN)/candlecast up $(ARGS)

check: setup-dev web  ## linters, types, import directions, generated files
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	cd web && node_modules/.bin/tsc --noEmit
	cargo fmt --check
	cargo clippy --quiet --all-targets --all-features -- -D warnings
	$(PY) -m mypy.stubtest candlecast._rust --ignore-missing-stub

# The pages are tested in a real browser.
chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	|| { echo "Chromium is missing: install it (Debian: apt-get install chromium), then run make again"; exit 1; }

test: setup-dev web chromium  ## every test, with the real Triton and PostgreSQL (TEST_WORKERS=2 files at a time)
	cargo test --quiet
	$(RUN)/pytest -n $(or $(TEST_WORKERS),2) --dist loadfile

test-api: setup-dev  ## schemathesis against the running HTTP API (5 minutes; EXAMPLES=100)
	SCHEMA_EXAMPLES=$(or $(EXAMPLES),100) $(RUN)/pytest tests/web/test_schema.py

bench: setup-dev  ## measure the main job beside its baselines (about 20 minutes; ARGS=--quick: 3)
	$(PY) bench/run.py $(ARGS)

faults: setup-dev  ## play the fault matrix (about 30 minutes; ROWS=1,5 plays some)
	$(PY) -m tests.faults.run --rows "$(ROWS)" --json target/faults.json $(ARGS)

prometheus:  ## unpack Debian's Prometheus for the tests that scrape with it (target/prometheus; no root, no service)
	@command -v prometheus promtool >/dev/null && echo "Prometheus is installed: $$(command -v prometheus)" || { \
		test -x target/prometheus/usr/bin/promtool || { \
		command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || \
			{ echo "Prometheus is missing, and this is no Debian: put prometheus and promtool on the PATH"; exit 1; }; \
		mkdir -p target/prometheus && cd target/prometheus && \
		{ apt-get download -q prometheus || { apt-get update -qq && apt-get download -q prometheus; }; } && \
		dpkg-deb -x prometheus_*.deb . || { echo "apt-get finds no package prometheus: try apt-get update first"; exit 1; }; }; }

test-monitoring: setup-dev prometheus  ## alerts, dashboards and questions against real servers, Prometheus included
	$(RUN)/pytest tests/integration/test_alerts.py tests/integration/test_prometheus.py tests/integration/test_viewers.py \
		tests/integration/test_report.py tests/unit/test_metabase_setup.py tests/contract/test_compose.py

dashboards:  ## write deploy/grafana/dashboards/*.json from their source
	python3 -m deploy.grafana.build

rollout-proof: setup-dev  ## switch the model under load, 100 times (about 12 minutes; SWITCHES=10: 2)
	$(PY) -m tests.faults.rollout_proof --switches $(or $(SWITCHES),100) $(ARGS)

soak: setup-dev  ## an hour of load with symbols that come and go (SOAK_MINUTES=60)
	$(PY) -m tests.faults.soak --minutes $(or $(SOAK_MINUTES),60)

test-learning: setup-dev  ## show that every family learns a known distribution (15 minutes on 2 busy cores)
	OMP_WAIT_POLICY=PASSIVE $(PY) -m tests.learning.run $(ARGS)

# The peers that bench/features_peers.py measures beside us live apart: their pins would pull on ours.
.venv-peers/.done: bench/peers/uv.lock bench/peers/pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-peers $(UV) sync --quiet --locked --project bench/peers
	@touch $@

bench-features: setup-dev .venv-peers/.done  ## measure the feature core beside its peers
	cargo bench --quiet
	$(PY) bench/features_door.py
	PYTHONPATH=python .venv-peers/bin/python bench/features_peers.py

gpu-kit: setup-dev  ## pack what bench/gpu.py needs on a GPU machine without a network (PYTHON_GPU=3.12)
	$(PY) bench/gpu_kit.py build/gpu-kit.tar.xz --python $(or $(PYTHON_GPU),3.12) $(ARGS)

PROTOC := $(PY) -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy_grpc=$(RUN)/protoc-gen-mypy_grpc
proto: setup-dev  ## generate python/candlecast/v1 from proto/
	$(PROTOC) --python_out=python --pyi_out=python proto/candlecast/v1/*.proto
	$(PROTOC) --grpc_python_out=python --mypy_grpc_out=python proto/candlecast/v1/forecasts.proto proto/candlecast/v1/order_flow.proto \
	  proto/candlecast/v1/performance.proto proto/candlecast/v1/history.proto proto/candlecast/v1/sentiment.proto \
	  proto/candlecast/v1/models.proto

fmt: setup-dev  ## format everything
	$(RUN)/ruff format . && $(RUN)/ruff check --fix . && cargo fmt

clean:  ## remove what was built
	rm -rf target .venv .venv-triton .venv-s3 .venv-peers .uv web/node_modules python/candlecast/dashboard/static
