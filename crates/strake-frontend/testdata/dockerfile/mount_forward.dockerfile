FROM debian:12 AS a
RUN --mount=from=b,target=/b x
FROM scratch AS b
