FROM scratch
ARG V=1
ENV N=name
COPY $N-${V}.* "/dst/$N"
COPY --chown=$N:${V} --chmod=${V}44 a /b
