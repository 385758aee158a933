FROM debian:12
ENV A=env
ARG A=arg
RUN a
ARG B=arg
ENV B=env
RUN b
