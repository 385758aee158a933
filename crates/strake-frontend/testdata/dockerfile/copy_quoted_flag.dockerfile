FROM scratch
COPY --chown="a:b" x /y
