FROM scratch AS one
EXPOSE nonsense
FROM scratch AS two
EXPOSE alike
FROM scratch AS three
EXPOSE as well
FROM scratch
COPY --from=one
RUN --mount=from=two,target=/x []
COYP --from=three a b
