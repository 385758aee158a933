#!/bin/sh
# Asks a running server whether it is well: tests/health.sh [URL]
set -eu
curl -fsS "${1:-http://localhost:8000}/health" | grep '^ok: '
