FROM debian:12
RUN <<EOF
# kept

RUN not an instruction \
EOF
