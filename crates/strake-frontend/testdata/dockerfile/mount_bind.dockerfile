FROM tools:1 AS t
RUN a
FROM debian:12
RUN --mount=target=/src --mount=type=bind,from=t,source=bin,target=/t,rw --mount=from=alpine,dst=/alpine b
