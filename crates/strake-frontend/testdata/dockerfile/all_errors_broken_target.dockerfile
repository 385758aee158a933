FROM debian:12 A wanted
EXPOSE nonsense
