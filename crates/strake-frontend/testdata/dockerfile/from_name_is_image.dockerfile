FROM debian:12 AS debian
FROM tools:1 AS tools
COPY --from=debian / /d/
