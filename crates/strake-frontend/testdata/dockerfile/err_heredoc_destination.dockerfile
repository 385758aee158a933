FROM scratch
COPY a <<EOF
x
EOF
COPY <<a/b /x
y
a/b
