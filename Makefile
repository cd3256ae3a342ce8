TARGET := $(shell uname -m)-unknown-linux-musl
DIR    := $(or $(CARGO_TARGET_DIR),target)
BIN    := $(abspath $(DIR)/$(TARGET)/release/rsup)
BUDGET := 524288

.DEFAULT_GOAL := help
.PHONY: help run build test lint size docker bench fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: build ## two small programs under rsup, in the foreground; ^C stops them
	$(BIN) -c docker/example/supervisord.conf

build: ## the static binary
	@rustc --print target-libdir --target $(TARGET) | xargs test -d || rustup target add $(TARGET)
	cargo build --release --locked --target $(TARGET)

test: build ## everything this machine can test; what it cannot is SKIPped aloud
	RSUP_BIN=$(BIN) cargo test --locked

lint: ## format, clippy and documentation without a warning
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

size: build ## the static binary is static, and within its budget
	@! readelf -lW $(BIN) | grep -w INTERP && ! readelf -dW $(BIN) | grep -w NEEDED
	@stat -c '%s bytes of $(BUDGET), static' $(BIN); test $$(stat -c %s $(BIN)) -le $(BUDGET)

docker: build ## the image of docker/Dockerfile, and the tests in containers
	tar -c -C docker Dockerfile -C $(dir $(BIN)) rsup | docker build -t rsup -
	RSUP_BIN=$(BIN) cargo test --locked --test all docker::

bench: build ## from a program's death to its next life; reading a large file
	RSUP_BIN=$(BIN) cargo bench --locked --target $(TARGET) --bench restart --bench load

fuzz: ## configuration files of any bytes, for FUZZ seconds (120)
	@mkdir -p tests/fuzz/corpus; command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	cargo fuzz run --fuzz-dir tests/fuzz -s none load tests/fuzz/corpus tests/conf -- -max_total_time=$(or $(FUZZ),120) -timeout=10

clean: ## nothing but sources
	cargo clean
