FROM debian:12
RUN --mount=type=cache a
RUN --mount=type=bind,target=/ a
RUN --mount=type=secret a
RUN --mount=type=tmpfs,target=/x,size=big a
RUN --mount=type=cache,target=/x,sharing=lokced a
RUN --mount=foo=bar,target=/x a
RUN --mount a
