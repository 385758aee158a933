FROM --platform=linux/arm/v7 debian:12 AS a
FROM --platform=linux/amd64 a
RUN x
FROM --platform=linux/arm64 scratch AS s
FROM a
COPY --from=s / /
