FROM alpine:latest
ARG VERSION=dev
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="My \"quoted\" app" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.created=${CREATED:-unknown} \
      org.opencontainers.image.description='single $VERSION'
LABEL maintainer=a@example.com
