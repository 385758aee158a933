FROM scratch
COPY a b c
ADD a b ./c
COPY a b .
COPY a b ..
COPY ["a", "b", "/c/"]
