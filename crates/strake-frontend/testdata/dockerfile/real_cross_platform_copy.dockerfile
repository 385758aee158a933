FROM --platform=$BUILDPLATFORM tools:1 AS xx
FROM --platform=$BUILDPLATFORM golang:1.22-alpine AS build
COPY --from=xx / /
ARG TARGETPLATFORM
RUN xx-go build -o /out/app && xx-verify /out/app
FROM alpine:latest
COPY --from=build /out/app /usr/bin/
COPY --from=debian:12 /etc/debian_version /etc/
RUN --mount=from=tools:1,source=/bin/t,target=/t /t
