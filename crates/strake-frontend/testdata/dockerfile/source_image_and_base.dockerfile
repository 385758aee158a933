FROM tools:1
COPY --from=tools:1 /a /a
