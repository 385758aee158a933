FROM scratch
COPY --chmod=99 a /b
COPY --chmod=u+q a /b
COPY --chmod=17777 a /b
