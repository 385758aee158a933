FROM --platform=linux/ debian:12
FROM --platform=$NOPE debian:12
