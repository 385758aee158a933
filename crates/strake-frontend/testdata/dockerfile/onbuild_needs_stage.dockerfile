FROM debian:12 AS builder
RUN build
FROM onbuild:stage
