FROM nopath:1
RUN a
