from scratch AS a
FROM scratch as b
