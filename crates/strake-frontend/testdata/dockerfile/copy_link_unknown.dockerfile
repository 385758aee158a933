FROM a b
COPY --link a /b
