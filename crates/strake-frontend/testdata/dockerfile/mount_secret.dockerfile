FROM debian:12
RUN --mount=type=secret,id=token --mount=type=secret,id=k,target=/k,required,mode=0440,uid=5 --mount=type=secret,id=e,env=E --mount=type=secret,target=/x/name a
