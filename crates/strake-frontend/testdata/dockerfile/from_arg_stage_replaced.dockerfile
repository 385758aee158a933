ARG BUILDER_IMAGE=builder_cache
FROM debian:12 AS builder_cache
RUN compile
FROM ${BUILDER_IMAGE} AS builder
RUN build
FROM scratch
COPY --from=builder /x /x
