FROM scratch
VOLUME /a /b
VOLUME ["/c d", "/$U"]
VOLUME ["/e"] x
