FROM scratch
COPY *.txt dir/**/x? [ab]/ /d/
