FROM onbuild:1 AS a
FROM a
RUN own
