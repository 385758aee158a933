FROM scratch AS a.b-c_1
FROM a.b-c_1
RUN ["x"]
