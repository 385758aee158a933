FROM alpine:latest
COPY --chmod=755 <<EOF /usr/local/bin/docker-entrypoint.sh
#!/bin/sh
set -e
exec "\$@"
EOF
ENTRYPOINT ["docker-entrypoint.sh"]
HEALTHCHECK --interval=1m30s --start-interval=500ms CMD ["wget", "-q", "-O-", "http://localhost/"]
CMD ["serve"]
STOPSIGNAL 15
