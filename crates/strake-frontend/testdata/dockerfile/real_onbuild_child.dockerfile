FROM onbuild:1
ARG BUILT_BY=make
CMD ["/app/run"]
