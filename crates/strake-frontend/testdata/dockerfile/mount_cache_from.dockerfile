FROM tools:1 AS seed
FROM debian:12
RUN --mount=type=cache,target=/c,from=seed,source=/s a
