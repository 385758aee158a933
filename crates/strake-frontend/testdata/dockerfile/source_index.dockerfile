FROM debian:12
RUN a
FROM scratch
COPY --from=0 /a /a
