FROM unknown.example/not/yet:1 AS a
COPY --link=true a /b
FROM scratch
COPY --link a /b
ADD --link b /b
COPY --link=nonsense b /b
COPY --link=false --from=a b /b
