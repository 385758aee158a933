FROM debian:12
RUN --network=none a
RUN --network=host b
RUN --network=default --security=sandbox c
