FROM scratch
ARG A=1
ONBUILD COPY $A /x
ONBUILD RUN <<EOF
make
EOF
onbuild run a \
  b
