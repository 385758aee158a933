FROM debian:12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN a | b
CMD c
