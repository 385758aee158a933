FROM debian:12
USER 1000
WORKDIR /home/me
