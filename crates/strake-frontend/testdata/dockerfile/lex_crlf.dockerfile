FROM scratch
RUN a \
  b
ENV A=b
