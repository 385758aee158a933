RUN a
ENV A=b
FROM scratch
