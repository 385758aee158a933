FROM debian:12 AS builder
EXPOSE nonsense
FORM debian:12 AS tools
COPY --from=builder /x /x
COPY --from=1 /x /x
FROM builder A final
VOLUME $OF_THE_BASE
COPY --from=tools /x /x
COPY --from=2 /x /x
COPY --from=tools
EXPOSE 99999999
