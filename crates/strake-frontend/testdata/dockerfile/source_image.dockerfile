FROM scratch
COPY --from=tools:1 /a /a
COPY --from=tools:1 /b /b
