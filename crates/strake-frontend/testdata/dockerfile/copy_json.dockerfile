FROM scratch
COPY ["a b", "c$d", "/e f/"]
