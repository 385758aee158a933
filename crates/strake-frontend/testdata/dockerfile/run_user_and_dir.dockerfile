FROM debian:12
USER app:grp
WORKDIR /w
RUN a
