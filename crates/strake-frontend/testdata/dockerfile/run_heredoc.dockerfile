FROM debian:12
RUN <<EOF
echo a
  echo b
EOF
