FROM scratch
EXPOSE 99999 a 80/foo 9-8 80
