# What there is to do here, one line each: make help

# rustup puts cargo where a non-login shell does not look.
HOME ?= /root
CARGO_HOME ?= $(HOME)/.cargo
export PATH := $(CARGO_HOME)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help conntrack-oracle setup build image image-feeder test-image demo demo-stop test test-vf test-flood bench bench-check bench-bless bless-crds bless-manifests nat-comparison fuzz lint fmt clean
# One cargo at a time: they would only wait for each other.
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages, Rust and cargo-nextest, if missing
	@scripts/setup.sh test

build: ## Build tmm and tmmctl, optimised, and say where they are
	@scripts/setup.sh build
	cargo build --release --locked -p dataplane -p cli --bins
	@echo "built $${CARGO_TARGET_DIR:-target}/release/tmm and tmmctl"

image: ## Build the container image f5-tmm with podman or docker, from the sources (IMAGE, BASE, IMAGE_BUILD_ARGS)
	@scripts/image.sh build

image-feeder: ## Build the image f5-tmm-feeder, out of tmmctl of f5-tmm (make image) and kubectl
	@scripts/image-feeder-build.sh

test-image: ## Build the image with the binaries of this machine, run it without root and pass traffic through it
	@scripts/setup.sh demo
	@scripts/setup.sh image
	cargo build --locked -p dataplane -p cli -p tests --bins
	@IMAGE_TOOL=podman scripts/image.sh prebuilt $${CARGO_TARGET_DIR:-target}/debug
	@scripts/image-test.sh

demo: ## Balance real requests over three backends and show how (KEEP=1 leaves it running)
	@scripts/setup.sh demo
	cargo build --profile demo --locked -p dataplane -p cli -p tests --bins
	@demo/run $(if $(KEEP),keep,once)

demo-stop: ## Stop a demo that was left running
	@demo/run stop

# The fuzz targets are a workspace of their own: that they build, and that its lock file is up to date.
CHECK_FUZZ = cargo check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir $${CARGO_TARGET_DIR:-target}

test: setup ## Run every check and test; the end-to-end tests need root
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(CHECK_FUZZ)
	cargo build --workspace --bins --locked
	cargo test --workspace --doc --locked --quiet
	@[ -d ../shared/captures ] || echo "test: no public captures at ../shared/captures: only frames and documents of our own are played"
	cargo nextest run --workspace --locked

test-vf: ## Run tmm on SR-IOV virtual functions in an emulated machine (root; fetches 110 MB once)
	@scripts/setup.sh vf
	cargo build --locked -p dataplane -p cli -p tests --bins
	@tests/vf/run

# Captures, should there be any, beside the sessions that are written down.
CAPTURES ?= ../shared/captures/pcap

conntrack-oracle: ## Compare the states of TCP connections with those of Linux nf_conntrack (root)
	@scripts/setup.sh test
	cargo build --locked -p dataplane --bin tmm
	@python3 tests/oracle/conntrack_oracle.py --tmm $${CARGO_TARGET_DIR:-target}/debug/tmm \
		--captures $(CAPTURES) --doc docs/conntrack-oracle.md

test-flood: ## Floods of ten million sources, tables of ten million flows: two minutes, 2 GiB
	@scripts/setup.sh test
	TMM_FLOOD=10000000 cargo test --locked -p tests --test overload -- --nocapture --test-threads=1 flood_of
	TMM_FLOWS=10000000 cargo test --locked -p conntrack --test scale -- --nocapture --test-threads=1

bench: ## Measure everything in less than 10 minutes: target/bench/report.md (ONLY=a,b, QUICK=1)
	@scripts/setup.sh test
	cargo build --profile bench --locked -p dataplane -p benches --bins
	$${CARGO_TARGET_DIR:-target}/release/tmm-bench --out $${CARGO_TARGET_DIR:-target}/bench \
		$(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

bench-check: ## Compare instructions per packet with benches/instructions.tsv; fails above 3 % more
	@scripts/setup.sh test
	cargo run --locked --quiet --profile bench -p benches --bin instructions -- --check

bench-bless: ## Accept the instructions per packet of now as the baseline
	@scripts/setup.sh test
	cargo run --locked --quiet --profile bench -p benches --bin instructions -- --bless

bless-crds: ## Write deploy/crds anew, from the readers of the resources; look at the difference
	@scripts/setup.sh build
	UPDATE_GOLDEN=1 cargo test --locked --quiet -p config --test schema what_is_committed

bless-manifests: bless-crds ## Render what is under deploy/ anew, from the chart; look at the difference
	@scripts/setup.sh test
	UPDATE_GOLDEN=1 cargo test --locked --quiet -p tests --test manifests -- the_plain the_chart_has

nat-comparison: ## The same packets through nftables NAT and through tmm: docs/comparison.md (root; a minute; CHECK=1)
	@scripts/setup.sh test
	cargo build --locked --quiet -p dataplane -p cli --bins
	@timeout --foreground -k 10 600 tests/nat-comparison/compare.py --bin $${CARGO_TARGET_DIR:-target}/debug $(if $(CHECK),--check)

fuzz: ## Fuzz every target for FUZZ_SECONDS each (60 if unset); stops at the first finding
	@scripts/setup.sh build
	@fuzz/run.sh all

lint: ## Check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(CHECK_FUZZ)

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove everything that was built
	cargo clean
