FROM onbuild:stage
