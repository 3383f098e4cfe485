# Arena LLM. Each target makes what it needs.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-all setup-vllm lock up scale restart down status doctor logs ray-up ray-down ray-status demo certs grpcurl proto contract lint test test-doors test-cluster torture test-fast packages test-gpu bench

# Without bytecode every process compiles what it imports: litellm takes 10 s instead of 4.
unexport PYTHONDONTWRITEBYTECODE
# The commands are run from this folder and import from it.
unexport PYTHONSAFEPATH

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
ALL := .venv/.all
VLLM_STAMP := .venv-vllm/.complete
# For targets that make a missing environment, but do not update an existing one.
INSTALLED := $(if $(wildcard $(STAMP)),,$(STAMP))
LOCK := pyproject.toml client/pyproject.toml client-compat/pyproject.toml uv.lock deploy/uv.txt
DEPLOY := $(BIN)/python -m deploy
# Unit tests that import torch and load small models.
WITH_MODELS := tests/unit/hf tests/unit/common/local
DEMO := $(or $(ARENA_RUN_DIR),.run)/demo

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { line = sprintf("  make %-12s", $$1); n = split($$2, words, " "); \
		for (i = 1; i <= n; i++) { if (length(line " " words[i]) > 80) { print line; line = sprintf("%19s", "") } \
		line = line " " words[i] } print line }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the environment .venv, or update it (PYTHON=python3.12 chooses the Python, WITH="torch ray" adds parts)
	@$(if $(WITH),$(PYTHON) deploy/environment.py services $(WITH))

$(STAMP): $(LOCK)
	@$(PYTHON) deploy/environment.py services

setup-all: $(ALL) ## Add everything to .venv: torch, Ray, Parquet, and what tests need

$(ALL): $(LOCK)
	@$(PYTHON) deploy/environment.py services all

setup-vllm: $(VLLM_STAMP) ## Make .venv-vllm for the vllm service: the CUDA build if there is a GPU, else the CPU build

$(VLLM_STAMP): $(LOCK)
	@$(PYTHON) deploy/environment.py vllm $(VLLM_FLAGS)

lock: $(STAMP) ## Choose new versions of all dependencies and write uv.lock
	.venv-uv/bin/uv lock --upgrade

up: $(STAMP) $(if $(filter-out 0,$(VLLM)),$(VLLM_STAMP)) ## Start services that are missing or changed, and call the embedded model once (VLLM=1 adds the vllm service, EDGE=envoy adds Envoy)
	@$(DEPLOY) up

scale: $(INSTALLED) ## Run N processes of one service on this machine (SERVICE=hf N=3)
	@$(DEPLOY) scale $(or $(SERVICE),$(error SERVICE=hf is missing)) $(or $(N),$(error N=3 is missing))

restart: $(INSTALLED) ## Restart a service, or one replica of it, after its calls (SERVICE=hf, SERVICE=hf-2)
	@$(DEPLOY) restart $(or $(SERVICE),$(error SERVICE=hf is missing))

down: $(INSTALLED) ## Stop the services
	@$(DEPLOY) down

# `python -m deploy status` exits with 1 unless all services serve; make would print this as an
# error.
status: $(INSTALLED) ## Show each service: state, pid, health, address, memory
	@$(DEPLOY) status || true

doctor: $(INSTALLED) ## Check this machine and this installation; list problems and how to fix them
	@test -x $(BIN)/python || { echo "$(BIN)/python cannot run, its Python was moved or removed: rm -r .venv && make setup"; exit 1; }
	@$(DEPLOY) doctor

logs: $(INSTALLED) ## Show the logs and follow them (SERVICE=hf, N=100 lines, FOLLOW=0)
	@$(DEPLOY) logs $(if $(SERVICE),--service $(SERVICE)) $(if $(N),--lines $(N)) $(if $(filter 0,$(FOLLOW)),--no-follow)

ray-up: $(STAMP) ## Run the services of configs/ray.yaml with Ray Serve, on the Ray cluster at ADDRESS=HOST:PORT, or on Ray started here
	@grep -qw ray-serve $(STAMP) || $(PYTHON) deploy/environment.py services ray-serve
	@$(BIN)/python -m deploy.ray up $(if $(ADDRESS),--address $(ADDRESS))

ray-down: $(INSTALLED) ## Stop the services on Ray, and Ray if it was started here (ADDRESS=HOST:PORT)
	@$(BIN)/python -m deploy.ray down $(if $(ADDRESS),--address $(ADDRESS))

ray-status: $(INSTALLED) ## Show the services on Ray: state, replicas (ADDRESS=HOST:PORT)
	@$(BIN)/python -m deploy.ray status $(if $(ADDRESS),--address $(ADDRESS))

demo: up ## Play a small experiment with the embedded model and print its report
	@rm -rf $(DEMO)
	@ARENA_LLM_TARGET=$$($(DEPLOY) target) $(BIN)/arena run \
		--config configs/experiments/smoke.yaml --results $(DEMO)
	@$(BIN)/arena report $(DEMO)/arena.sqlite

certs: $(STAMP) ## Make certs/: an authority, and new certificates for services and callers (HOSTS="gpu1 10.0.0.5")
	@$(DEPLOY) certs $(HOSTS)

grpcurl: $(STAMP) ## Print the path of a working grpcurl; install it if there is none
	@$(DEPLOY) grpcurl

proto: $(ALL) ## Generate the stubs from proto/
	$(BIN)/buf format -w
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=client/src --pyi_out=client/src \
		proto/arena_llm/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -Iproto --grpc_python_out=client/src \
		proto/arena_llm/v1/llm_service.proto
	cp proto/arena_llm/v1/*.proto client/src/arena_llm/v1/

contract: $(ALL) ## Write proto/contract.binpb (raise REVISION first); refuse a contract that breaks callers of 1.0.0
	$(BIN)/buf breaking --against proto/contract-1.0.0.binpb
	$(BIN)/buf build --exclude-source-info -o proto/contract.binpb

lint: $(ALL) ## Check style, types, the contract and uv.lock
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against proto/contract-1.0.0.binpb
	$(BIN)/buf breaking --against proto/contract.binpb
	.venv-uv/bin/uv lock --check --quiet

# If vLLM has no build for this machine, its tests are skipped and say so.
test: VLLM_FLAGS := --if-supported
test: $(ALL) $(VLLM_STAMP) ## Run the unit and integration tests
	@$(DEPLOY) prepare
	@$(BIN)/python -m tests.doors.environments --light
	$(BIN)/python -m pytest -n auto

# Foreign programs, each in an environment of its own (tests/doors/environments.py).
test-doors: $(ALL) ## Run all tests with foreign programs (DOORS="openai" chooses some)
	$(BIN)/python -m tests.doors.environments $(DOORS)
	$(BIN)/python -m pytest tests/doors

test-cluster: $(ALL) ## Run the tests of Ray clusters: conformance of Ray Serve, scaling, killed nodes; needs idle cores
	$(BIN)/python -m pytest -m cluster

# At most 15 minutes on 2 cores. KIND="provider grpc" chooses kinds of attack.
torture: $(ALL) ## Attack a running system for 12 minutes: hostile requests, answers, files and faults (SEED=7 repeats a run)
	@$(DEPLOY) prepare
	$(BIN)/python -m tests.torture $(KIND:%=--kind %) $(if $(SEED),--seed $(SEED))

test-fast: $(ALL) ## Run the unit tests that start no process and load no model
	$(BIN)/python -m pytest -n auto -m "not integration" tests/unit $(WITH_MODELS:%=--ignore %)

packages: $(ALL) ## Build wheels and sdists into dist/, and test them in empty environments
	$(BIN)/python -m release

test-gpu: $(ALL) $(if $(wildcard /dev/nvidiactl),$(VLLM_STAMP)) ## Run the tests that need a GPU; they are skipped without one
	@$(DEPLOY) prepare
	$(BIN)/python -m pytest tests/gpu

bench: $(ALL) ## Run the benchmarks, print figures and write bench/results/ (BENCH="router hf")
	$(BIN)/python -m bench $(BENCH)
