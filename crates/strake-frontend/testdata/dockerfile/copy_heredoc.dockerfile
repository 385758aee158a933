FROM scratch
ENV N=name
COPY <<EOF /x
$N "$N" '$N' \$N \\ ${U:-d}
EOF
