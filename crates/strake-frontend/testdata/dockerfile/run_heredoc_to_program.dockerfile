FROM debian:12
RUN python3 <<EOF
print("x")
EOF
RUN cat <<A > /a && cat 3<<-"B" > /b
x $y
A
	z
	B
