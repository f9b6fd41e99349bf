# Ottla. `make run` and `make test` are all a fresh Debian machine needs; see README.md.

SHELL := /bin/bash
# One target directory for every build on this machine: RocksDB compiles once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/ottla/target
export OTTLA_TEST_CACHE ?= $(HOME)/.cache/ottla
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO_FLAGS := --release --workspace
OTTLA := $(CARGO_TARGET_DIR)/release/ottla
# kill -9s, losses of power, damages, fuzzing seconds per target: small in `make test`, any size by hand.
KILLS ?= 100
SOAK_KILLS ?= 5000
SOAK_LIFE_STEPS ?= 20000
SOAK_MEMORY_SECONDS ?= 3600
SOAK_CONNECT_KILLS ?= 100
SOAK_POWER_LOSSES ?= 500
SOAK_DAMAGES ?= 2000
# Rounds of `make chaos`, half a minute each.
ROUNDS ?= 30
# Seeds of `make sim`, and one of them alone.
SEEDS ?= 1000
SEED ?=
FUZZ_SECONDS ?= 600
TOOLS := $(OTTLA_TEST_CACHE)/tools
DEB := $(CARGO_TARGET_DIR)/debian/ottla.deb

.PHONY: run cluster test test-deploy test-cluster unit clients deploy deb verify fix build setup setup-tests fuzz fuzz-short soak chaos sim bench

run: build ## builds, starts Ottla, shows its main job on real input, stays up
	@deploy/demo $(OTTLA)

cluster: build ## three brokers on this machine, with replication, for a look
	@deploy/cluster $(OTTLA)

build: setup
	cargo build $(CARGO_FLAGS)

setup: ## what the build needs from Debian, and a Rust compiler
	@.ci/setup

setup-tests: ## and what the tests need
	@.ci/setup --tests

test: verify build unit fuzz-short clients test-cluster deploy ## everything CI runs

unit: setup-tests
	OTTLA_BIN=$(OTTLA) OTTLA_KILLS=$(KILLS) cargo test $(CARGO_FLAGS) --no-fail-fast

clients: setup-tests build ## the daily Kafka clients, against a broker of their own
	OTTLA_BIN=$(OTTLA) tests/clients/run

test-cluster: setup-tests build ## the same clients against three brokers, every topic with three replicas
	OTTLA_BIN=$(OTTLA) tests/clients/run --cluster

deploy: setup-tests build ## the chart, dashboards, alerts, image and unit; no cluster needed
	OTTLA_BIN=$(OTTLA) tests/deploy/run -m "not full"

test-deploy: setup-tests deb ## that, and the Debian package installed and started on a copy of this machine; needs root
	OTTLA_BIN=$(OTTLA) OTTLA_DEB=$(DEB) tests/deploy/run

deb: build ## a Debian package, at $(DEB)
	@command -v $(TOOLS)/bin/cargo-deb > /dev/null || \
		CARGO_TARGET_DIR=$(TOOLS)/target cargo install --locked --root $(TOOLS) cargo-deb@3.8.0
	mkdir -p $(dir $(DEB))
	$(TOOLS)/bin/cargo-deb -p ottla-broker --no-build --strip -o $(DEB)

verify: setup-tests ## never writes
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	@.ci/generated --check

fix: setup
	cargo fmt --all
	cargo clippy $(CARGO_FLAGS) --all-targets --fix --allow-dirty --allow-staged
	@.ci/generated

fuzz: FUZZ = $(FUZZ_SECONDS)
fuzz-short: FUZZ = 20
fuzz fuzz-short: setup-tests
	@command -v $(TOOLS)/bin/cargo-fuzz > /dev/null || \
		CARGO_TARGET_DIR=$(TOOLS)/target cargo install --locked --root $(TOOLS) cargo-fuzz@0.13.2
	for target in request batch; do \
		RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(OTTLA_TEST_CACHE)/fuzz-target PATH=$(TOOLS)/bin:$$PATH \
		cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target -- -max_total_time=$(FUZZ) || exit 1; \
	done

soak: setup-tests build ## kill -9, loss of power, damage, topic life, memory, for as long as you like: SOAK_KILLS=20000 make soak
	OTTLA_BIN=$(OTTLA) OTTLA_KILLS=$(SOAK_KILLS) cargo test $(CARGO_FLAGS) --test kill9 -- --nocapture
	OTTLA_BIN=$(OTTLA) OTTLA_POWER_LOSSES=$(SOAK_POWER_LOSSES) OTTLA_DAMAGES=$(SOAK_DAMAGES) \
		cargo test $(CARGO_FLAGS) --test faults --test doctor -- --nocapture --test-threads=1
	OTTLA_BIN=$(OTTLA) OTTLA_CONNECT_KILLS=$(SOAK_CONNECT_KILLS) cargo test $(CARGO_FLAGS) --test connect once -- --nocapture
	OTTLA_BIN=$(OTTLA) OTTLA_LIFE_STEPS=$(SOAK_LIFE_STEPS) cargo test $(CARGO_FLAGS) --test life -- --nocapture
	OTTLA_BIN=$(OTTLA) OTTLA_MEMORY_SECONDS=$(SOAK_MEMORY_SECONDS) cargo test $(CARGO_FLAGS) --test memory -- --nocapture

chaos: setup-tests build ## three brokers on hosts of their own, and faults drawn from a seed; needs root: make chaos ROUNDS=1000
	OTTLA_BIN=$(OTTLA) OTTLA_CHAOS_ROUNDS=$(ROUNDS) cargo test $(CARGO_FLAGS) --test chaos rounds -- --nocapture

sim: setup-tests ## replication and whole brokers, simulated: make sim SEEDS=10000, or make sim SEED=72 for one history
	OTTLA_SIM_SEEDS=$(SEEDS) $(if $(SEED),OTTLA_SIM_SEED=$(SEED)) cargo test $(CARGO_FLAGS) --test cluster --bin ottla simulation:: -- --nocapture

bench: setup-tests build ## real Apache Kafka and Ottla in one run; see docs/performance.md
	$(CARGO_TARGET_DIR)/release/ottla-loadtest compare --ottla-bin $(OTTLA)
