FROM debian:12
ENV PATH=/x:$PATH
ENV path=lower
