FROM scratch
RUN ["a", 1]
COPY ["a", ["b"]]
SHELL [1]
