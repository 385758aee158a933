FROM debian:12 AS Tools
FROM scratch
COPY --from=TOOLS /a /a
