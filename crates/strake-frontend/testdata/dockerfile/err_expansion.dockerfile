FROM scratch
ENV A=${B
ENV C="x
ENV D=${E:=f}
WORKDIR ${F:?set F first}
USER ${}
