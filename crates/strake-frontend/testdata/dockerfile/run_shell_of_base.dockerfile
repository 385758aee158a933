FROM service:1
RUN a
CMD b
