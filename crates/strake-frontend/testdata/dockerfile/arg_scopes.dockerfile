ARG A=global
ARG B=$A-b
FROM debian:12 AS one
RUN 1 $A
ARG A
ARG C=$A-c
RUN 2
FROM debian:12
RUN 3
COPY --from=one /x /x
