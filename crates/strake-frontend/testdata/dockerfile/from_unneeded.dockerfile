FROM nowhere AS unused
RUN x
FROM debian:12 AS used
RUN y
FROM nowhere2 AS later
FROM used
RUN z
