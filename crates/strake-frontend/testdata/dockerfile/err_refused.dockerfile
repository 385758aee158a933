FROM scratch
COPY --link a b
COPY --parents a b
COPY --exclude=x a b
ADD --keep-git-dir=true a b
RUN --mount=type=ssh a
