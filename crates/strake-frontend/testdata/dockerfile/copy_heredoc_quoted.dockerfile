FROM scratch
ENV N=name
COPY <<"EOF" /x
$N \$N
EOF
