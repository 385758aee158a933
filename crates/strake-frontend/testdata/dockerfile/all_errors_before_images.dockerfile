FROM unknown.example/not/yet:1 AS base
EXPOSE nonsense
FROM base
RUN --mount=type=bind,from=other.example/not/yet,target=/ true
COPY --chmod=99 $UNKNOWN/a /b
