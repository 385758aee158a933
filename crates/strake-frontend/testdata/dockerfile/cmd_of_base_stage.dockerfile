FROM debian:12 AS a
CMD ["x"]
FROM a
ENTRYPOINT ["y"]
