FROM scratch AS unneeded
EXPOSE nonsense
COPY --from=7 a /b
COPY --chmod
FROM scratch
STOPSIGNAL nonsense
