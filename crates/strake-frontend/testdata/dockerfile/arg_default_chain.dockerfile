ARG A=1
FROM scratch
ARG A=${A:-2}
ARG B=${A}x C=$B
ENV D=$C
