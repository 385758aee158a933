FROM scratch
COPY <<A <<A /d/
1
A
2
A
