FROM onbuild:1
ARG BUILT_BY=me
RUN own
