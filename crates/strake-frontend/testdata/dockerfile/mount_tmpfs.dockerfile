FROM debian:12
RUN --mount=type=tmpfs,target=/t,size=64m a
