FROM nopath:1
WORKDIR sub
COPY a b
