FROM scratch AS builder
FROM scratch
COPY --from=Biulder /a /a
