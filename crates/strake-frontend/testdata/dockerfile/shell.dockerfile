FROM scratch
SHELL ["/bin/bash", "-c"]
ENTRYPOINT x
