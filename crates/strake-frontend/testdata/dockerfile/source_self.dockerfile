FROM scratch AS a
COPY --from=a /x /x
COPY --from=0 /x /x
COPY --from=7 /x /x
COPY --from=-1 /x /x
