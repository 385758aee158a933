"""Serves the page that webpack has bundled; with --check it only says what it would serve."""

import pathlib
import sys

from flask import Flask, send_from_directory

ASSETS = pathlib.Path("/srv/assets")
app = Flask(__name__)


@app.get("/<path:name>")
def asset(name):
    return send_from_directory(ASSETS, name)


if __name__ == "__main__":
    if "--check" in sys.argv:
        answer = app.test_client().get("/bundle.js")
        print(f"bundle.js: status {answer.status_code}, {len(answer.data)} bytes")
        sys.exit(0 if answer.status_code == 200 and answer.data else 1)
    app.run(host="127.0.0.1", port=8000)
