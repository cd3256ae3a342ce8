TARGET := $(shell uname -m)-unknown-linux-musl
DIR    := $(or $(CARGO_TARGET_DIR),target)
BIN    := $(abspath $(DIR)/$(TARGET)/release/rsup)
BUDGET := 491520

# `make dist` makes these, as far as Rust's library for them can be had.
DIST := $(patsubst %,%-unknown-linux-musl,x86_64 aarch64 i686) armv7-unknown-linux-musleabihf riscv64gc-unknown-linux-musl

# The same bytes in every folder of every machine: what a panic says of the places of packages and of Rust's library must
# not depend on where they are here.
PLACES = $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src/= \
    $(shell rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(shell rustc -vV | sed -n 's/^commit-hash: //p')
comma := ,
CARGO_BUILD = cargo build --release --locked \
    --config "target.'cfg(target_env = \"musl\")'.rustflags = [$(PLACES:%='--remap-path-prefix=%'$(comma))]"

# Rust's library for a target, there or fetched.
library = rustc --print target-libdir --target $1 | xargs test -d || rustup target add $1

.DEFAULT_GOAL := help
.PHONY: help run build tiny test lint size image docker man dist binaries bench peers soak fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: build ## two small programs under rsup, in the foreground; ^C stops them
	$(BIN) -c docker/example/supervisord.conf

build: ## the static binary
	@$(call library,$(TARGET))
	$(CARGO_BUILD) --target $(TARGET)

# What only nightly has, the stable compiler takes when it is told so. Built like this, a panic still says where it was;
# `immediate-abort` would save more, and it would not.
tiny: ## a fifth smaller: Rust's own library is built for size, too, from its source
	rustup component add rust-src
	RUSTC_BOOTSTRAP=1 $(CARGO_BUILD) --target $(TARGET) --target-dir $(DIR)/tiny \
	    -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size
	@stat -c '%s bytes: %n' $(DIR)/tiny/$(TARGET)/release/rsup

test: build ## everything this machine can test; what it cannot is SKIPped aloud
	RSUP_BIN=$(BIN) cargo test --locked $(SKIP:%=-- --skip %)

lint: ## format, clippy and documentation without a warning; it compiles where a word has 32 bits
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@$(call library,i686-unknown-linux-musl)
	cargo check --locked --target i686-unknown-linux-musl
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

size: build ## the static binary is static, and within its budget
	@! readelf -lW $(BIN) | grep -w INTERP && ! readelf -dW $(BIN) | grep -w NEEDED
	@stat -c '%s bytes of $(BUDGET), static' $(BIN); test $$(stat -c %s $(BIN)) -le $(BUDGET)

image: build ## the image rsup: the last stage of docker/Dockerfile around the static binary
	@mkdir -p $(DIR)/image && cp $(BIN) $(DIR)/image/
	sed '1,/^$$/d; s/--from=build //' docker/Dockerfile | docker build -t rsup -f - $(DIR)/image

docker: image ## the image, and the tests in containers
	RSUP_BIN=$(BIN) cargo test --locked --test all docker:: -- --test-threads 4

man: build ## the manual page rsup(8), which help2man makes of --help
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) help2man --section=8 --no-info \
	    --name='supervisord for containers as one small static binary' --output=$(DIR)/rsup.8 $(BIN)

dist: binaries ## static binaries for other machines, tried under qemu, and built twice to see that they are the same
	RSUP_DIST=$(abspath $(DIR)/dist) cargo test --locked --test all dist::

binaries:
	@rm -rf $(DIR)/dist; mkdir -p $(DIR)/dist
	@set -e; for target in $(DIST); do \
	    if $(call library,$$target); then \
	        $(CARGO_BUILD) --target $$target; \
	        cp $(DIR)/$$target/release/rsup $(DIR)/dist/rsup-$${target%%-*}; \
	    else \
	        echo "SKIP $$target: its library cannot be had"; \
	    fi; \
	done
	cd $(DIR)/dist && sha256sum rsup-* | tee SHA256SUMS

bench: build ## rsup and its peers in turns: TABLES of life reap idle command events load size; an image beside supervisord's
	RSUP_BIN=$(BIN) cargo bench --locked --target $(TARGET) --bench bench -- $(TABLES)
	RSUP_BIN=$(BIN) cargo test --locked --test all docker::beside::side_by_side -- --ignored --nocapture

peers: build ## what rsup and its peers do when things go wrong, as a table
	RSUP_BIN=$(BIN) cargo test --locked --test all peers_faults:: -- --nocapture

soak: build ## chaos for SOAK seconds (600), seeded by SEED; each use of each system call fails; the laws in a million walks
	SOAK=$(or $(SOAK),600) SEED=$(or $(SEED),$(shell date +%s)) INJECT=all WALKS=1000000 RSUP_BIN=$(BIN) \
		cargo test --locked --test all -- --nocapture soak:: inject:: policy_walks::

fuzz: ## configuration files of any bytes, for FUZZ seconds (120)
	@mkdir -p tests/fuzz/corpus; command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	cargo fuzz run --fuzz-dir tests/fuzz -s none load tests/fuzz/corpus tests/conf -- -max_total_time=$(or $(FUZZ),120) -timeout=10

clean: ## nothing but sources
	cargo clean
	-@command -v docker >/dev/null && docker images -q rsup-tests | xargs -r docker rmi
