FROM debian:12 AS one
RUN a
FROM nowhere AS two
