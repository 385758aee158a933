# top
FROM scratch
   # indented
RUN a \
# inside
   # inside too
 && b # not a comment
