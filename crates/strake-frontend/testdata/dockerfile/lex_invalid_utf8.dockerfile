FROM scratch
RUN café
