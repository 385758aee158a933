FROM alpine:latest AS shared
COPY --from=proto / /proto
FROM alpine:latest
COPY --from=shared /proto /proto
COPY services/*/config.yaml services/**/*.txt /config/
RUN --mount=type=bind,from=proto,target=/p,rw --mount=type=tmpfs,target=/tmp,size=64m ls /p
