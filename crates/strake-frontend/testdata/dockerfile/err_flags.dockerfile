FROM --plattform=x scratch
COPY --chwon=1 a b
COPY --from a b
RUN --network=hots a
RUN --security=insecure a
RUN --mount=type=cach,target=/x a
RUN --mount=target=/x,target=/y a
USER --x y
ADD --from=x a b
RUN --device=x a
