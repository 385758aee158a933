FROM debian:12
WORKDIR /w/
COPY a b
COPY . .
COPY ./ ./
COPY a /b/
COPY a b/.
COPY a ../b
COPY ../../etc/passwd /x
COPY /abs /y
COPY a $UNSET
