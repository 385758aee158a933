FROM debian:12
RUN <<'EOF'
echo $A
EOF
RUN <<"E O F"
x
E O F
