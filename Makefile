# Every target works on a fresh machine by itself; it needs Python 3.11 or 3.12 and make.
PYTHON ?= python3
BIN := .venv/bin
MINIO := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
WORKERS ?= 3
SECONDS ?= 60
RUNS ?= 20000

.PHONY: help venv demo test check lint fuzz simulate large servers api-fuzz bench-http bench-requests bench-age bench-gc bench-verify soak bench bench-full bench-peers clean

help:
	@echo "make demo     see a real tree pushed, edited, pushed again, pulled and compared"
	@echo "make test     run the tests (SeaweedFS always; MinIO where 'make servers' built it)"
	@echo "make check    everything that CI runs: lint, types, walls, tests"
	@echo "make servers  install the servers that the tests talk to; MinIO needs Go"
	@echo "make fuzz     fuzz every decoder, a minute each; SECONDS=600 for longer"
	@echo "make simulate  writers, readers and collectors in 20,000 orders of their calls; RUNS=1000 for fewer"
	@echo "make api-fuzz  requests made of the OpenAPI document, deeper than in the tests"
	@echo "make large    files of 2 and 20 GB, and a million files, in and out, memory measured; takes long"
	@echo "make bench-requests  requests of a small push and a cold read, by the size of the store"
	@echo "make soak      8 processes push, drop and collect, killed and stopped; ten minutes a storage"
	@echo "make bench-gc        a collection of a store of 10 million chunks, its memory and speed"
	@echo "make bench-verify    a verification of such a store"
	@echo "make bench-http      a server's streams, beside those of a bare server"
	@echo "make bench-age       what a pull of the newest of 50 versions reads, against a fresh store"
	@echo "make bench           chunkstore beside the tools that are installed; about 13 minutes"
	@echo "make bench-full      the same on gigabytes of each kind of data"
	@echo "make bench-peers     install restic, rustic, borg and hf-xet into .peers for it"
	@echo "make venv     .venv with everything, so that .venv/bin/chunkstore runs"

venv: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: venv
	$(BIN)/python -m bench.demo

test: venv
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not large'

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

simulate: venv
	$(BIN)/python -m tests.simulation.play --runs $(RUNS)

fuzz: venv
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

large: venv
	$(BIN)/python -m pytest -m large -s --timeout 0

servers: venv
	@if command -v go >/dev/null; then \
	  [ -x .servers/minio ] || { echo "building MinIO, about 3 minutes ..."; \
	    GOBIN=$(CURDIR)/.servers go install $(MINIO); }; \
	else echo "no Go here, so no MinIO: the tests that need it will be skipped and counted"; fi

bench-requests: venv
	$(BIN)/python -m bench.bench_requests

bench-gc: venv
	$(BIN)/python -m bench.bench_gc

bench-verify: venv
	$(BIN)/python -m bench.bench_verify

soak: venv
	$(BIN)/python -m bench.soak --seconds 600

bench-age: venv
	$(BIN)/python -m bench.bench_age

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench: .venv/bench
	$(BIN)/python -m bench.run --scale sample

bench-full: .venv/bench
	$(BIN)/python -m bench.run --scale full

bench-peers:
	PYTHON=$(PYTHON) bench/install_peers.sh

api-fuzz: venv  # schemathesis over the HTTP API, deeper than in 'make test'
	$(BIN)/python -m pytest -m large tests/api/test_fuzz.py --timeout 0

bench-http: venv  # a server beside a bare stream of FastAPI, up and down, and many at once
	$(BIN)/python -m bench.bench_http

clean:
	rm -rf .venv .servers .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
