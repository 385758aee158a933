ARG X=a
FROM scratch AS a
FROM scratch
COPY --from=$X /a /a
RUN --mount=from=${X},target=/x y
