# Short names for common commands; `just` lists them.

default:
    @just --list

# What must pass before a change is merged.
ci:
    .ci/run

test:
    cargo test --release --workspace

# Rewards as WebAssembly components, which the other tests leave out.
test-wasm:
    cargo test --release -p rlvr-rewards -p rlvr --features rlvr/wasm --test wasm

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets --features rlvr/cuda,rlvr/wgpu,rlvr/wasm -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace

# The wheel of the command and the Python module, built and tested in a clean environment; ARGS go to the script.
wheel *ARGS:
    python3 python/build_wheel.py {{ARGS}}

# Train the small example; ARGS go to `rlvr train`.
addition *ARGS:
    cargo run --release -- train examples/addition/config.toml {{ARGS}}

bench:
    cargo bench --bench decoder
    cargo bench --bench sampling

# The CUDA code compiles; needs neither CUDA nor a GPU.
check-cuda:
    cargo check --release --features cuda

# The unsafe code of the CPU's kernels under AddressSanitizer, tests that need files or processes left out. Builds the
# dependencies once more, in a directory of its own.
sanitize:
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize \
        cargo test --release --target x86_64-unknown-linux-gnu -p rlvr-policies --lib host::

# Seeded fuzzing, INPUTS a target; the head of tests/fuzz/targets/seeded.rs says how to be guided by coverage.
fuzz INPUTS='100000':
    FUZZ_INPUTS={{INPUTS}} cargo test --release -p rlvr-rewards -p rlvr-policies --test fuzz_targets

# Licences, advisories, sources. Needs `cargo install cargo-deny`.
deny:
    cargo deny check
