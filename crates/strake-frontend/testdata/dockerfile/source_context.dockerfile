FROM scratch
COPY --from=docs /a /a
