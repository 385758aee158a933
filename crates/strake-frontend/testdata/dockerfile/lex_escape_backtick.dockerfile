# escape=`
FROM scratch
ENV P=c:\dir`$x
COPY a `
  b\ /d/
