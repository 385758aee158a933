FROM debian:12
WORKDIR /a
RUN a
COPY b c
