FROM debian:12
COPY --from=scratch / /x/
