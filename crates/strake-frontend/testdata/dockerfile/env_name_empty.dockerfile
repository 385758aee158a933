FROM scratch
ENV $U=1
