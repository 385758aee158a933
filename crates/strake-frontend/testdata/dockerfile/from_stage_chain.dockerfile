FROM debian:12 AS a
ENV A=1
ARG X=x
RUN a
FROM a AS b
RUN b $X
FROM b
RUN c
