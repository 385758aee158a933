FROM debian:12
ARG D=/c
WORKDIR /w
RUN --mount=type=cache,target=/root/.cache --mount=type=cache,id=x,target=$D,sharing=locked,uid=1,gid=2,mode=0700 a
RUN --mount=type=cache,target=rel b
