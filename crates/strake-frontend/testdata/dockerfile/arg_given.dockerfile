FROM scratch
ARG A=1 B
ARG A=3
ENV C=$A$B
