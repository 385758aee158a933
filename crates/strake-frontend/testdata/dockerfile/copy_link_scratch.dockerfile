FROM debian:12 AS build
FROM scratch AS empty
LABEL a=b
FROM empty
COPY --link --from=build /etc/os-release /etc/
