FROM scratch AS a
COPY --from=z! /x /x
FROM scratch
