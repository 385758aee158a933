FROM --platform=$BUILDPLATFORM debian:12 AS build
ARG TARGETARCH
RUN build $TARGETARCH
FROM debian:12
COPY --from=build /x /x
