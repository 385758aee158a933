FROM onbuild:image
RUN own
