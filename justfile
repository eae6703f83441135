# The menu.
default:
    @just --list

# Format, lint, test: what CI runs
check:
    .ci/run

# Every test
test:
    cargo test --release

# The whole system at work
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# A local Functions host on port 7071
host *ARGS:
    cargo run --release -- host {{ARGS}}

# The folder that func start and a zip deployment take
stage OUT="target/app":
    cargo run --release -- stage --out {{OUT}}

# Rewrite golden files and generated documents
golden:
    UPDATE=1 cargo test --release

# Measure: import against sqlite3, admissions under load
bench *ARGS:
    cargo run --release -- bench {{ARGS}}
