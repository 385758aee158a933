FROM scratch
COPY --link=false a /b
ADD --keep-git-dir=false --unpack=false a /b
