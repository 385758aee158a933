FROM debian:12
ARG DEBIAN_FRONTEND=noninteractive
SHELL ["/bin/bash", "-euxo", "pipefail", "-c"]
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean; \
    apt-get update; \
    apt-get install -y --no-install-recommends ca-certificates curl gnupg; \
    curl -fsSL https://example.com/key | gpg --dearmor > /usr/share/keyrings/x.gpg
ENV LANG C.UTF-8
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
