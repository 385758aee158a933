FROM scratch
MAINTAINER Some One <a@b.c>
