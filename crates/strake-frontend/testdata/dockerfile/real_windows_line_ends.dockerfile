# syntax=docker/dockerfile:1
# escape=\
FROM debian:12
RUN apt-get update && \
    # a comment in between
    apt-get install -y curl
ENV A=1 \
    B="two words"
COPY <<EOF /etc/x
line
EOF
CMD ["bash"]
