ARG DISTRO=debian
ARG RELEASE=12
ARG BASE=${DISTRO}:${RELEASE}
FROM ${BASE} AS debian-base
FROM alpine:latest AS alpine-base
FROM ${DISTRO}-base AS final
ARG RELEASE
RUN echo "${RELEASE}" > /release
