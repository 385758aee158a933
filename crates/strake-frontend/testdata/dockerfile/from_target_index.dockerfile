FROM debian:12
RUN a
FROM nowhere
