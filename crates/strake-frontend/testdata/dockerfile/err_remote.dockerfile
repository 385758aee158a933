FROM scratch
ADD https://example.com/a.tgz /
ADD git@github.com:a/b.git /b
ADD git://x/y /z
COPY http://x/y /z
ADD --checksum=sha256:1 a /b
