# syntax=docker/dockerfile:1
ARG BUILDER_IMAGE=builder_cache

FROM debian:12 AS builder_cache
WORKDIR /work
COPY . .
RUN cargo fmt --check && cargo clippy && cargo test && cargo build --release
RUN find . -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +

FROM ${BUILDER_IMAGE} AS builder
WORKDIR /work
COPY . .
RUN cargo build --release

FROM debian:12
COPY --from=builder /work/target/release/app /usr/local/bin/app
CMD ["app"]
