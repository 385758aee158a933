FROM scratch
COPY <<a.txt file <<-b.txt /d/
one
a.txt
	two
	b.txt
