TARGET    := $(shell uname -m)-unknown-linux-musl
DIR       := $(or $(CARGO_TARGET_DIR),target)
# With PLAIN_FORK=1, every target uses a binary that starts programs with fork(2) instead of clone(CLONE_VM). That binary
# has its own directory, so that neither build replaces the other.
BUILD_DIR := $(DIR)$(if $(PLAIN_FORK),/plain-fork)
BIN       := $(abspath $(BUILD_DIR)/$(TARGET)/release/rsup)
BUDGET    := 491520

# The targets of `make dist`. rustup does not offer Rust's standard library for each of them with every version of Rust.
DIST := $(patsubst %,%-unknown-linux-musl,x86_64 aarch64 i686) armv7-unknown-linux-musleabihf riscv64gc-unknown-linux-musl

# Flags of the compiler for a smaller binary; src/README.md, "The binary", has the figures.
# - The machine outliner moves instructions that occur in several places into a function of their own.
# - The inline threshold is one limit for the size of all functions that are copied to their callers. It makes
#   opt-level "z" useful: without it, that level copies hardly any function, and the calls take more room than the copies.
# - A `match` with fewer than 12 arms becomes comparisons instead of a table of addresses.
# - Partial redundancy elimination (PRE) is off, because it copies instructions to other branches.
# - A panic message in Rust's own library names the file `library/...`. trim-paths would put 46 bytes before each such name.
RUSTC_FLAGS = -Cllvm-args=-enable-machine-outliner -Cllvm-args=-inline-threshold=30 \
    -Cllvm-args=-min-jump-table-entries=12 -Cllvm-args=-enable-pre=false \
    --remap-path-prefix=$(shell rustc --print sysroot)/lib/rustlib/src/rust/library=library \
    $(if $(PLAIN_FORK),--cfg=rsup_plain_fork)

# build-std compiles Rust's standard library from its source with the release profile of Cargo.toml: the binary is two
# fifths smaller than with the library that rustup installs. trim-paths replaces the directories of this machine in panic
# messages, so that every machine builds the same bytes. A stable cargo accepts -Z only with RUSTC_BOOTSTRAP=1.
CARGO_BUILD = RUSTC_BOOTSTRAP=1 cargo build --release --locked --target-dir $(BUILD_DIR) \
    -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size \
    -Z trim-paths --config 'profile.release.trim-paths = "all"' \
    --config 'profile.release.opt-level = "z"' \
    $(foreach flag,$(RUSTC_FLAGS),--config "target.'cfg(target_env = \"musl\")'.rustflags = ['$(flag)']")

# Installs the source of Rust's standard library, unless it is there.
rust_src = test -d "$$(rustc --print sysroot)/lib/rustlib/src/rust/library" || rustup component add rust-src
# Installs Rust's standard library for target $1, unless it is there. A build with build-std needs its libc.a and crt1.o.
library = rustc --print target-libdir --target $1 | xargs test -d || rustup target add $1

.DEFAULT_GOAL := help
.PHONY: help run toolchain build test test-plain-fork lint audit size image docker man dist binaries arm64 bench peers soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

run: build ## run two small programs under rsup in the foreground; ^C stops them
	$(BIN) -c docker/example/supervisord.conf

toolchain: ## install the parts of the toolchain that `make build` and `make lint` need
	@$(rust_src)
	@$(call library,$(TARGET))
	@$(call library,i686-unknown-linux-musl)

build: ## build the static binary; PLAIN_FORK=1: without clone(CLONE_VM)
	@$(rust_src)
	@$(call library,$(TARGET))
	$(CARGO_BUILD) --target $(TARGET)

test: build ## run every test that can run here; each skipped test prints a SKIP line with the reason
	cargo test --locked --lib --target $(TARGET) sys::
	RSUP_BIN=$(BIN) cargo test --locked $(SKIP:%=-- --skip %)

# The tests that start no program; those of the client, the relay, the log and the exit, which do not depend on how a
# program was started; and those in containers, which `make docker PLAIN_FORK=1` runs.
PLAIN_FORK_SKIP := architecture:: arm64:: config_limits:: control:: corpus:: dependent_startup:: dist:: docker:: \
    imports:: listeners:: logging:: manual:: oracle:: ordered_start:: output:: output_soak:: peers:: peers_faults:: \
    policy_walks:: requests:: under_init:: unkillable::

test-plain-fork: ## run the tests that start programs with the binary of PLAIN_FORK=1
	@$(MAKE) build PLAIN_FORK=1
	SOAK=$(or $(SOAK),20) RSUP_BIN=$(abspath $(DIR)/plain-fork/$(TARGET)/release/rsup) \
	    cargo test --locked --test all -- $(PLAIN_FORK_SKIP:%=--skip %)

TOOLCHAIN = $(shell sed -n 's/^channel = "\(.*\)"$$/\1/p' rust-toolchain.toml)

lint: ## check the format, clippy, the documentation, the toolchain's version, and that 32-bit code compiles
	@rustc --version | grep -F 'rustc $(TOOLCHAIN) '
	grep -x 'rust-version = "$(TOOLCHAIN)"' Cargo.toml
	grep 'FROM rust:$(TOOLCHAIN)-' docker/Dockerfile
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@$(call library,i686-unknown-linux-musl)
	cargo check --locked --target i686-unknown-linux-musl
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

audit: ## look for dependencies with known vulnerabilities, if cargo-deny or cargo-audit is installed
	@if command -v cargo-deny >/dev/null; then cargo deny check advisories; \
	elif command -v cargo-audit >/dev/null; then cargo audit; \
	else echo 'NOT RUN: neither cargo-deny nor cargo-audit is installed'; fi

size: build ## check that the binary is static and at most 480 KiB
	@! readelf -lW $(BIN) | grep -w INTERP && ! readelf -dW $(BIN) | grep -w NEEDED
	@stat -c '%s bytes of $(BUDGET), static' $(BIN); test $$(stat -c %s $(BIN)) -le $(BUDGET)

image: build ## build the image rsup: the last stage of docker/Dockerfile with the static binary
	@mkdir -p $(DIR)/image && cp $(BIN) $(DIR)/image/
	sed '1,/^$$/d; s/--from=build //' docker/Dockerfile | docker build -t rsup -f - $(DIR)/image

docker: image ## build the image, then run the tests in containers
	RSUP_BIN=$(BIN) cargo test --locked --test all docker:: -- --test-threads 4 $(SKIP:%=--skip %)

man: ## check the manual page docker/rsup.8, if mandoc or groff is installed
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning docker/rsup.8; \
	elif command -v groff >/dev/null; then groff -mdoc -T utf8 -ww -z docker/rsup.8; \
	else echo 'NOT RUN: neither mandoc nor groff is installed'; fi

dist: binaries ## build the static binaries for other machines, test them under qemu, and compare them with a second build
	RSUP_DIST=$(abspath $(DIR)/dist) cargo test --locked --test all dist::

binaries:
	@rm -rf $(DIR)/dist; mkdir -p $(DIR)/dist
	@$(rust_src)
	@set -e; for target in $(DIST); do \
	    if $(call library,$$target); then \
	        $(CARGO_BUILD) --target $$target; \
	        cp $(BUILD_DIR)/$$target/release/rsup $(DIR)/dist/rsup-$${target%%-*}; \
	    else \
	        echo "SKIP $$target: rustup cannot install Rust's standard library for it"; \
	    fi; \
	done
	cp docker/rsup.8 $(DIR)/dist/
	cd $(DIR)/dist && sha256sum rsup* | tee SHA256SUMS

ARM64 := aarch64-unknown-linux-musl

arm64: ## boot an arm64 kernel in qemu with rsup as its init, and run tests in this virtual machine
	@if $(call library,$(ARM64)); then \
	    $(MAKE) build TARGET=$(ARM64) && mkdir -p $(DIR)/arm64 && cp $(BUILD_DIR)/$(ARM64)/release/rsup $(DIR)/arm64/; \
	else \
	    echo "SKIP $(ARM64): rustup cannot install Rust's standard library for it"; \
	fi
	RSUP_ARM64=$(abspath $(DIR)/arm64) cargo test --locked --test all arm64:: -- --nocapture

# cargo also builds rsup itself for the benchmark, without build-std. A directory of its own keeps $(BIN) as it is.
bench: build ## compare rsup with its peers: TABLES of life reap idle command control events load ordered output size; then two images side by side
	RSUP_BIN=$(BIN) cargo bench --locked --target $(TARGET) --target-dir $(DIR)/bench --bench bench -- $(TABLES)
	RSUP_BIN=$(BIN) cargo test --locked --test all docker::beside::side_by_side -- --ignored --nocapture

peers: build ## print a table of what rsup and its peers do in each of a list of faults
	RSUP_BIN=$(BIN) cargo test --locked --test all peers_faults:: -- --nocapture

soak: build ## random faults for SOAK seconds (600) with seed SEED; 10 GB into a log file; KILLS (60) of the relay; every system call fails once; a million walks of the policy
	SOAK=$(or $(SOAK),600) SEED=$(or $(SEED),$(shell date +%s)) OUTPUT_SOAK=10000 KILLS=$(or $(KILLS),60) INJECT=all WALKS=1000000 \
		RSUP_BIN=$(BIN) cargo test --locked --test all -- --nocapture soak:: inject:: policy_walks:: relay_is_killed relay_that_is_killed

fuzz: ## read random bytes as configuration files, requests and status boards for FUZZ seconds each (120)
	@mkdir -p tests/fuzz/corpus; command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	cargo fuzz run --fuzz-dir tests/fuzz -s none control -- -max_total_time=$(or $(FUZZ),120) -timeout=10
	cargo fuzz run --fuzz-dir tests/fuzz -s none load tests/fuzz/corpus tests/conf -- -max_total_time=$(or $(FUZZ),120) -timeout=10

clean: ## remove everything that was built
	cargo clean
	-@command -v docker >/dev/null && docker images --format '{{.Repository}}:{{.Tag}}' rsup-tests | xargs -r docker rmi
