# escape=`
FROM debian:12
COPY a\b c:\d\
RUN echo one `
 && echo two
ENV P=C:\tools\bin;$PATH
WORKDIR /x`
/y
