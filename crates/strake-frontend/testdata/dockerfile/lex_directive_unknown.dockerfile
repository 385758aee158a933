# color=red
# escape=`
FROM scratch
RUN a `
