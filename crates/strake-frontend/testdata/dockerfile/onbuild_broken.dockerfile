FROM onbuild:broken
