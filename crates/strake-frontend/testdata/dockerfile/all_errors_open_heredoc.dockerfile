FROM scratch AS first
EXPOSE nonsense
COPY <<EOF /x
${
FROM scratch AS wanted
RUN a
