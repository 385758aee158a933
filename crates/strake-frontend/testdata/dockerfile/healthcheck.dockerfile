FROM debian:12
HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=5s --start-interval=1.5s --retries=3 CMD curl -f http://x || exit 1
