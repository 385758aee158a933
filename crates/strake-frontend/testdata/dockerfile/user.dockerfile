FROM scratch
ARG U=me
USER $U
USER 1:2
