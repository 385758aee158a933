FROM debian:12 AS a
USER app
FROM scratch
COPY --from=a /x /y
