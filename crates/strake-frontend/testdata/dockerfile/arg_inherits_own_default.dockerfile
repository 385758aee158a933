ARG A=1
FROM scratch
ARG A
ARG A=${A}2
ENV D=$A
