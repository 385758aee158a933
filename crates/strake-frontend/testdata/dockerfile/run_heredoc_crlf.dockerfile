FROM scratch
RUN <<EOF
echo
EOF
RUN x
