FROM debian:12
AGR VERSION=1
EXPOSE 80
EXPOSE nonsense
STOPSIGNAL SIGNOPE
COPY a b /c
CMD
VOLUME [""]
RUN --mount=type=cache,target=/ true
