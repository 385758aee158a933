FROM rust:1.79 AS build
WORKDIR /src
RUN --mount=type=bind,source=Cargo.toml,target=Cargo.toml \
    --mount=type=bind,source=Cargo.lock,target=Cargo.lock \
    --mount=type=bind,source=src,target=src \
    --mount=type=cache,target=/src/target \
    --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --locked --release && cp target/release/app /bin/app
FROM debian:12 AS final
ARG UID=10001
RUN adduser --disabled-password --gecos "" --home /nonexistent --shell /sbin/nologin --no-create-home --uid "${UID}" appuser
USER appuser
COPY --from=build --chmod=0755 /bin/app /bin/
CMD ["/bin/app"]
