FROM scratch
COPY --chown=1:2 --chmod=0755 a /b
COPY --chmod=u=rwX,go=rX,+t a /b
ADD --chown=x --chmod=a-w a /b
COPY --chmod=g=u a /b
