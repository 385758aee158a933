FORM debian:12
RUN true
EXPOSE nonsense
