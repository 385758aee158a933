FROM alpine AS a
FROM debian:12 AS alpine
FROM a
